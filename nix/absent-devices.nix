# Finds the devices that the host needs at boot and that the image does not have. It is NOT a NixOS module:
# module.nix calls it. Another disk of the machine may have them, so they are only warnings.
{
  config,
  lib,
  fileSystems,
  partitions,
}:
let
  inherit (fileSystems) espFs nixFs;
  isIn = list: element: lib.elem element list;

  ### What the image has, by the names that udev gives it

  own = lib.filter (fs: fs != null) [
    espFs
    nixFs
  ];
  identities =
    map (fs: fs.device) own
    # Where no device names another.
    ++ lib.optionals (espFs != null) [
      "/dev/disk/by-label/ESP"
      "/dev/disk/by-partlabel/EFI\\x20System"
    ]
    ++ [
      "/dev/disk/by-label/NIXOS_SYSTEM"
      "/dev/disk/by-partlabel/Linux\\x20filesystem"
    ]
    ++ partitions.devices;
  hasContents = lib.filter (partition: partition.contents or null != null) partitions.extraPartitions != [ ];
  isPresent =
    device:
    isIn identities device
    # The names in a partition's contents are not known before they are read.
    || hasContents && builtins.match "/dev/disk/by-(uuid|label)/.+" device != null;

  ### What the host needs, as sets of `device` and the `option` that names it

  tag = builtins.match "(UUID|LABEL|PARTUUID|PARTLABEL)=(.+)";
  ofFs = fs: {
    option = ''fileSystems."${fs.mountPoint}"'';
    device = if tag fs.device == null then fs.device else fileSystems.ofTag (tag fs.device);
  };
  isLocal =
    fs:
    fs.device != null
    && (builtins.match "/dev/.+" fs.device != null || tag fs.device != null || fs.fsType == "zfs");
  isNeeded = options: !lib.elem "nofail" options && !lib.elem "noauto" options;
  # Of /boot, there is an error if it is neither.
  isOwn =
    fs:
    isIn (
      map (fs: fs.mountPoint) own
      ++ [
        "/boot"
        fileSystems.apart
      ]
    ) fs.mountPoint;

  mounts = map ofFs (
    lib.filter (
      fs: fs.enable or true && !isOwn fs && isLocal fs && isNeeded fs.options && !lib.elem "bind" fs.options
    ) (lib.attrValues config.fileSystems)
  );
  luks = config.boot.initrd.luks.devices or { };
  # What holds a filesystem of the image is an error already.
  encrypted = map (name: {
    option = ''boot.initrd.luks.devices."${name}"'';
    inherit (luks.${name}) device;
  }) (lib.filter (name: !isIn identities "/dev/mapper/${name}") (lib.attrNames luks));
  # The warning about `encrypted` covers what it opens.
  isOpened = device: builtins.match "/dev/mapper/.+" device != null && luks ? ${baseNameOf device};

  swaps = lib.filter (
    swap: builtins.match "/dev/.+" swap.device != null && isNeeded (swap.options or [ ])
  ) (config.swapDevices or [ ]);

  # systemd-repart may make the devices at the first boot.
  isPartitioned =
    config.systemd.repart.enable or false || config.boot.initrd.systemd.repart.enable or false;
  absent = lib.filter (needed: !isPresent needed.device && !isOpened needed.device);
  needed = absent (encrypted ++ mounts);
in
{
  warnings = lib.optionals (!isPartitioned) (
    map (
      device:
      ''the image has no "${device}", and the machine does not boot without it (''
      + lib.concatMapStringsSep ", " (one: one.option) (lib.filter (one: one.device == device) needed)
      + ''); unless another disk has it, remove that or, for a filesystem, add "nofail" to its options''
    ) (lib.unique (map (one: one.device) needed))
    ++ map (
      swap:
      ''the image has no "${swap.device}", for which the machine waits 90 s at each boot (swapDevices); ''
      + "unless another disk has it, set sane.image.swapSize to its size, or remove it"
    ) (absent swaps)
  );
}
