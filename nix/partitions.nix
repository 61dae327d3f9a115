# The extra partitions of an image, and the MBR's list of all partitions for firmware. It is NOT a NixOS
# module: module.nix adds the options to its own.
{
  config,
  fileSystems,
  lib,
}:
let
  inherit (lib) literalExpression mkOption types;

  cfg = config.sane.image;
  hex = digits: "0x[0-9a-fA-F]{1,${toString digits}}";
  guid = types.strMatching "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";

  # What depthcharge, the boot loader of ChromeOS machines, starts.
  platform = {
    name = "platform";
    typeGuid = "fe3a2a5d-4f32-41a7-b725-accc3285a309";
    uuid = null;
    # Successful (bit 56), 5 tries left (bits 52 to 55), priority 10 (bits 48 to 51).
    attributes = "0x015a000000000000";
    size = cfg.platformPartSize;
    contents = "${config.system.build.platformPartition}";
    place = "beforeBoot";
  };

  extraPartitions =
    lib.optional (cfg.platformPartSize != null) platform
    ++ map (partition: withSwap partition // pages) cfg.extraPartitions
    ++ map (partition: partition // pages) swap.partitions;
  names =
    lib.optional (fileSystems.espFs != null) "boot"
    ++ [ "nix" ]
    ++ lib.concatMap (partition: lib.optional (partition ? name) partition.name) extraPartitions;

  swap = import ./swap.nix { inherit config lib; };
  # A partition that the host encrypts anew at each boot gets no signature by which it could be used plain.
  withSwap =
    partition:
    partition
    // lib.optionalAttrs (
      partition.swap == null && lib.any swap.isEncrypted (namesOf partition)
    ) { swap = false; };

  pages = lib.optionalAttrs (cfg.swapPageSize != 4096) { inherit (cfg) swapPageSize; };

  # What udev calls a partition, as far as that is known here.
  namesOf =
    partition:
    lib.optional (partition ? name) "/dev/disk/by-partlabel/${swap.escape partition.name}"
    ++ lib.optional (partition.uuid or null != null) "/dev/disk/by-partuuid/${lib.toLower partition.uuid}"
    ++ lib.optional (partition.swapDevice or null != null) partition.swapDevice;

  extraPartition.options = {
    name = mkOption {
      type = types.strMatching ".+";
      example = "swap";
      description = "The partition's name, as in {file}`/dev/disk/by-partlabel`; no two have the same.";
    };
    typeGuid = mkOption {
      type = guid;
      example = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
      description = "The GUID of the partition's type.";
    };
    uuid = mkOption {
      type = types.nullOr guid;
      default = null;
      example = "9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28";
      description = "The partition's own UUID; null for one derived from those of the image.";
    };
    attributes = mkOption {
      type = types.either types.ints.unsigned (types.strMatching (hex 16));
      default = 0;
      example = "0x8000000000000000";
      description = "The 64 bits of attributes in its entry, as a number or in hexadecimal.";
    };
    size = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = literalExpression "4 * 1024 * 1024 * 1024";
      description = "Its size in bytes; null for that of its contents.";
    };
    contents = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = literalExpression "./data.img";
      description = "The file whose bytes it starts with; null for an empty partition.";
    };
    swap = mkOption {
      type = types.nullOr types.bool;
      default = null;
      example = false;
      description = ''
        Whether it is a swap area that {command}`swapon` takes. Null means yes if it has the swap type
        (`0657fd6d-…`) and no contents, and is not one of {option}`swapDevices` with `randomEncryption`.
      '';
    };
    swapDevice = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/dev/disk/by-label/swap";
      description = ''
        The path of this partition in the host's {option}`swapDevices`. It gets the UUID, label, partition
        UUID or partition name in this path, as with {option}`fileSystems`.
      '';
    };
    place = mkOption {
      type = types.enum [
        "beforeBoot"
        "afterBoot"
      ];
      default = "afterBoot";
      example = "beforeBoot";
      description = ''
        Whether it is before or after the partition of {file}`/boot`. The partition that holds the store is
        always the last one, so that it can grow.
      '';
    };
  };

  hybridEntry.options = {
    partition = mkOption {
      type = types.str;
      example = "boot";
      description = ''
        `boot` or `nix`, or the name of one of {option}`sane.image.extraPartitions`.
      '';
    };
    type = mkOption {
      type = types.either types.ints.u8 (types.strMatching (hex 2));
      example = "0x0c";
      description = "The MBR's type of the partition, as a number or in hexadecimal; FAT32 is `0x0c`.";
    };
    bootable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether it is marked as the one to boot from.";
    };
  };
in
{
  inherit extraPartitions;

  # All names in /dev/disk that these partitions have for sure.
  devices = lib.concatMap namesOf extraPartitions;

  # What keeps a host from having an image.
  errors =
    lib.optional (cfg.platformPartSize != null && !config.system.build ? platformPartition) (
      "sane.image.platformPartSize is set, but system.build.platformPartition is missing; set it to the "
      + "file that depthcharge starts, or sane.image.platformPartSize to null"
    )
    ++ map (
      partition:
      ''sane.image.extraPartitions: "${partition.name}" has neither a size nor contents; set its size''
    ) (lib.filter (partition: partition.size == null && partition.contents == null) cfg.extraPartitions)
    ++ swap.errors
    ++ map (
      entry:
      ''sane.image.hybridMbr: there is no partition "${entry.partition}"; set it to one of ''
      + lib.concatMapStringsSep ", " (name: ''"${name}"'') names
    ) (lib.filter (entry: !lib.elem entry.partition names) cfg.hybridMbr);

  options = {
    extraPartitions = mkOption {
      type = types.listOf (types.submodule extraPartition);
      default = [ ];
      example = literalExpression ''
        [
          {
            name = "swap";
            typeGuid = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
            size = 4 * 1024 * 1024 * 1024;
          }
        ]
      '';
      description = ''
        More partitions, in this order. They start and end at whole MiB. A swap partition is ready for use;
        the running system must make the filesystems on others, unless they have contents.
      '';
    };

    swapSize = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = literalExpression "4 * 1024 * 1024 * 1024";
      description = ''
        The size in bytes of a swap partition; null for none. The host's {option}`swapDevices` must have
        exactly one path in {file}`/dev/disk/by-uuid`, `by-label`, `by-partuuid` or `by-partlabel`, which
        decides its name. It is ready for {command}`swapon`, or empty if the host encrypts it with a new key
        at each boot.
      '';
    };

    swapPageSize = mkOption {
      type = types.enum [
        4096
        8192
        16384
        32768
        65536
      ];
      default = 4096;
      example = 16384;
      description = ''
        The page size of the host's kernel in bytes, as {command}`getconf PAGESIZE` prints it there. A kernel
        does not accept a swap partition made for another page size. 16384 on the Raspberry Pi 5 with the
        kernel of its makers, and on Apple's processors.
      '';
    };

    hybridMbr = mkOption {
      type = types.listOf (types.submodule hybridEntry);
      default = [ ];
      example = literalExpression ''
        [
          {
            partition = "boot";
            type = "0x0c";
          }
        ]
      '';
      description = ''
        Up to three partitions that the MBR lists, too, for firmware that cannot read the GPT, such as that of
        the Raspberry Pi 3. The empty list is the right setting unless your firmware needs an MBR.
      '';
    };

    platformPartSize = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = literalExpression "64 * 1024 * 1024";
      description = ''
        The size in bytes of a partition before {file}`/boot` that depthcharge, the firmware of Chromebooks,
        boots from; null for none. It holds the file `config.system.build.platformPartition`.
      '';
    };
  };
}
