# Makes the image's swap partition from the host's `swapDevices`. It is NOT a NixOS module: partitions.nix
# calls it.
{ config, lib }:
let
  cfg = config.sane.image;
  swapDevices = config.swapDevices or [ ];
  named = lib.filter (
    swap: builtins.match "/dev/disk/by-(uuid|label|partuuid|partlabel)/.+" swap.device != null
  ) swapDevices;
  only = lib.head named;
  isRandom = swap: swap.randomEncryption.enable or false;
  partLabel = builtins.match "/dev/disk/by-partlabel/(.+)" only.device;
in
{
  # Whether the host encrypts the swap device at this path with a new key at each boot.
  isEncrypted = device: lib.any (swap: swap.device == device && isRandom swap) swapDevices;

  # A name as udev spells it in /dev/disk; what else it escapes is in no name that anybody gives.
  escape = builtins.replaceStrings [ "\\" " " "/" ] [ "\\x5c" "\\x20" "\\x2f" ];

  # What sane.image.swapSize asks for.
  partitions = lib.optional (cfg.swapSize != null && lib.length named == 1) (
    {
      typeGuid = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
      size = cfg.swapSize;
      swap = !isRandom only;
      swapDevice = only.device;
    }
    # Else, sane-image reads its name from the device.
    // lib.optionalAttrs (partLabel == null) { name = "swap"; }
  );

  errors = lib.optionals (cfg.swapSize != null) (
    lib.optional (named == [ ]) (
      "sane.image.swapSize is set, but swapDevices has no partition that the image could have; set it to "
      + ''[ { device = "/dev/disk/by-label/swap"; } ], or sane.image.swapSize to null''
    )
    ++ lib.optional (lib.length named > 1) (
      "sane.image.swapSize is the size of one partition, but swapDevices has ${toString (lib.length named)}; "
      + "set it to null, and list them in sane.image.extraPartitions, each with its swapDevice"
    )
  );
}
