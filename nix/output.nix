# The formats of an image, and the size of its disk. It is NOT a NixOS module: module.nix adds the
# options to its own.
{ config, lib }:
let
  inherit (lib) literalExpression mkOption types;
  inherit (import ./formats.nix)
    extensions
    toList
    withBlockMap
    withLevel
    withOtherLevels
    ;

  cfg = config.sane.image;
  formats = toList cfg.format;
  has = format: lib.elem format formats;

  format = types.enum (lib.attrNames extensions);

  MiB = 1024 * 1024;
  GiB = 1024 * MiB;

  # What is wrong with a disk of this size if it has to be a multiple of `unit`, which `name` means.
  sizeMistake =
    unit: name:
    let
      below = cfg.diskSize / unit * unit;
      remedy = lib.concatMapStringsSep " or " toString (
        lib.optional (below > 0) below ++ [ (below + unit) ]
      );
    in
    lib.optional (cfg.diskSize != null && below != cfg.diskSize)
      "sane.image.diskSize is ${toString cfg.diskSize}, which is not a whole number of ${name}; set it to ${remedy}";

  variant =
    extension: image:
    { config, modulesPath, ... }:
    {
      imports = [ "${modulesPath}/image/file-options.nix" ];
      image.baseName = config.sane.image.name;
      image.extension = extension config;
      system.build.image = image config.system.build.img;
    };
in
{
  # What keeps the host from having an image.
  errors =
    lib.optional (cfg.blockMap && !lib.any has withBlockMap) (
      ''sane.image.blockMap is true, but sane.image.format has neither "raw" nor "zst", which a block map is for; ''
      + "add one of them, or set sane.image.blockMap to false"
    )
    ++ lib.optional (has "qcow2" && has "qcow2+zstd") (
      ''sane.image.format has "qcow2" and "qcow2+zstd", whose files have the same name; remove one of them''
    )
    ++ lib.optional
      (cfg.compressionLevel != 3 && lib.any has withLevel && lib.any has withOtherLevels)
      (
        "sane.image.compressionLevel is for zst and qcow2+zstd, but sane.image.format has "
        + lib.concatStringsSep " and " (lib.filter has withOtherLevels)
        + ", too, whose levels are others; remove that from the list: the image has each format as an attribute"
      )
    ++ (if has "gce" then sizeMistake GiB "GiB, as the format gce needs it" else sizeMistake MiB "MiB");

  # For `nixos-rebuild build-image --image-variant`: the image as the host has it, and in each format.
  variants = {
    sane = variant (config: extensions.${lib.head (toList config.sane.image.format)}) (img: img);
  }
  // lib.mapAttrs' (
    format: extension: lib.nameValuePair "sane-${format}" (variant (_: extension) (img: img.${format}))
  ) extensions;

  options = {
    format = mkOption {
      type = types.either format (types.nonEmptyListOf format);
      default = "raw";
      example = [
        "qcow2"
        "zst"
      ];
      description = ''
        What the image is written as: one format, or a list of them, of which each becomes a file and all
        hold the same disk. The image has each format as an attribute, too, whatever is set here:
        {command}`nix build .#imgs.myhost.qcow2`.

        - `raw`: {file}`nixos.img`, the bytes of the disk
        - `zst`: {file}`nixos.img.zst`, compressed; any {command}`zstd` unpacks it
        - `qcow2`, `qcow2+zstd`: {file}`nixos.qcow2`, for QEMU and most clouds, plain or compressed
        - `vmdk`: {file}`nixos.vmdk`, for VMware, VirtualBox and the import of AWS
        - `vhd`: {file}`nixos.vhd`, for Azure
        - `vhdx`: {file}`nixos.vhdx`, for Hyper-V
        - `gce`: {file}`nixos.tar.gz`, for Google Compute Engine; the disk becomes whole GiB
      '';
    };

    compressionLevel = mkOption {
      type = types.ints.between 1 22;
      default = 3;
      example = 19;
      description = ''
        How hard zstd compresses if the format is `zst` or `qcow2+zstd`. Higher levels take longer, above 10
        much longer; unpacking takes the same time. Not for a list that has `vmdk` or `gce` in it: their
        levels are different.
      '';
    };

    blockMap = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to make {file}`nixos.img.bmap`, too, for the formats `raw` and `zst`. It lists the ranges of
        the disk that must be written, and their checksums. {command}`bmaptool copy` writes only these,
        whatever the disk held before.
      '';
    };

    diskSize = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = literalExpression "8 * 1024 * 1024 * 1024";
      description = ''
        The size of the whole disk in bytes, a whole number of MiB; the filesystem that holds the store fills
        it. Null for the smallest disk that holds the contents and {option}`sane.image.nixFreeSpace`. That
        much must be free in any case.
      '';
    };
  };
}
