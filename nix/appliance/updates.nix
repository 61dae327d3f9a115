# Updates from one version of an image to the next: two slots for the store, and what systemd-sysupdate does with them.
# It is NOT a NixOS module: default.nix calls it.
#
# The files of a version are those that `sane-image build --split` writes.
{
  config,
  fileSystems,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;
  inherit (fileSystems) nixFs;

  cfg = config.sane.image;
  own = cfg.updates;
  inherit (own) name;
  enable = own.enable && nixFs != null;
  option = ''fileSystems."${nixFs.mountPoint}"'';
  label = "${name}_${toString own.version}";
  byLabel = "/dev/disk/by-partlabel/${label}";

  isSealed = cfg.verity.enable;
  # As `MatchPartitionType=` takes it.
  typeOf =
    suffix:
    if isSealed then
      "${baseNameOf nixFs.device}-${import ./architecture.nix pkgs.stdenv.hostPlatform}${suffix}"
    else
      "linux-generic";

  transfer = Source: Target: {
    Transfer = {
      # The one that runs.
      ProtectVersion = own.version;
      Verify = own.keyring != null;
    };
    Source = {
      Type = "url-file";
      Path = own.url;
    }
    // Source;
    Target = {
      InstancesMax = 2;
    }
    // Target;
  };

  # What a partition gets. The UUID in the name of a file is that of the partition, which follows from the root hash.
  partition =
    contents: suffix:
    transfer
      {
        MatchPattern = lib.optional isSealed "${name}_@v_@u.${contents}.raw.zst" ++ [
          "${name}_@v.${contents}.raw.zst"
        ];
      }
      {
        Type = "partition";
        # systemd finds the disk below it.
        Path = nixFs.mountPoint;
        MatchPattern = [ "${name}_@v${suffix}" ];
        MatchPartitionType = typeOf (lib.optionalString (suffix != "") "-verity");
      };

  # The last one: a version without its store would not boot.
  kernel = transfer { MatchPattern = [ "${name}_@v.efi" ]; } (
    {
      Type = "regular-file";
      Path = "/EFI/Linux";
      PathRelativeTo = "boot";
      MatchPattern = lib.optionals (cfg.uki.tries != null) [
        "${name}_@v+@l-@d.efi"
        "${name}_@v+@l.efi"
      ]
      ++ [ "${name}_@v.efi" ];
      Mode = "0444";
    }
    // lib.optionalAttrs (cfg.uki.tries != null) {
      TriesLeft = cfg.uki.tries;
      TriesDone = 0;
    }
  );
in
{
  errors = lib.optionals enable (
    lib.optional (own.version == null) (
      "sane.image.updates.enable is true, but the image has no version; set system.image.version to \"1\", and count up"
    )
    ++ lib.optional (own.version != null && builtins.stringLength "${label}_verity" > 36) (
      "sane.image.updates.name and version make the partition name ${label}_verity, which is longer than the 36 "
      + "characters that a partition can have; set sane.image.updates.name to a shorter one"
    )
    ++ lib.optional (!cfg.uki.enable) (
      "sane.image.updates.enable is true, but the kernel of a new version gets nowhere; set sane.image.uki.enable to true"
    )
    ++ lib.optional (cfg.uki.enable && (cfg.uki.name != name || cfg.uki.version != own.version)) (
      "sane.image.uki and sane.image.updates have different names or versions, but one file is meant; remove "
      + "sane.image.uki.name and version"
    )
    ++ lib.optional (!fileSystems.isReadOnly) (
      ''sane.image.updates.enable is true, but an update replaces the whole store, and ${option} can be written; ''
      + ''set ${option}.fsType to "erofs", or add "ro" to ${option}.options''
    )
    ++ lib.optional (own.version != null && !isSealed && nixFs.device != byLabel) (
      "sane.image.updates.enable is true, and each version must find its own store; set ${option}.device to "
      + ''"/dev/disk/by-partlabel/${name}_''${config.system.image.version}", or sane.image.verity.enable to true''
    )
  );

  spec = lib.optionalAttrs enable {
    updates = {
      inherit name;
      inherit (own) slotSize version;
    };
  };

  sysupdate = lib.optionalAttrs (own.enable && own.url != null) (
    {
      "60-store" = partition "store" "";
      "70-kernel" = kernel;
    }
    // lib.optionalAttrs isSealed { "50-verity" = partition "verity" "_verity"; }
  );

  etc = lib.optionalAttrs (own.enable && own.url != null && own.keyring != null) {
    "systemd/import-pubring.gpg".source = own.keyring;
  };

  # gpg is what systemd has the signature verified by.
  services = lib.optionalAttrs (own.enable && own.url != null && own.keyring != null) {
    systemd-sysupdate.path = [ pkgs.gnupgMinimal ];
  };

  options.updates = {
    enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the disk has a second, empty slot for the store, into which the running system writes the next version
        of the image. The partitions of a version are called `<name>_<version>`, the empty ones `_empty`. See
        {command}`sane-image build --split` for the files of an update.
      '';
    };

    name = mkOption {
      type = types.strMatching "[0-9a-zA-Z][0-9a-zA-Z._-]*";
      default = cfg.uki.name;
      defaultText = literalExpression "config.sane.image.uki.name";
      example = "kiosk";
      description = "What is updated: the first part of the names of its partitions and files.";
    };

    version = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-zA-Z][0-9a-zA-Z.-]*");
      default = cfg.uki.version;
      defaultText = literalExpression "config.sane.image.uki.version";
      example = "1";
      description = ''
        The version of this image; must be set in {option}`system.image.version`. Each new image needs a higher one.
      '';
    };

    slotSize = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = literalExpression "4 * 1024 * 1024 * 1024";
      description = ''
        The size in bytes of each of the two slots for the store, a whole number of MiB; no later version can be
        larger. Null for half as much again as the store needs now.
      '';
    };

    url = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "https://updates.example.org/kiosk/";
      description = ''
        Where the machine finds the files of new versions, and `SHA256SUMS`; null for no updates by systemd-sysupdate.
        The option turns {option}`systemd.sysupdate` on, which looks for a new version from time to time.
      '';
    };

    keyring = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = literalExpression "./updates.gpg";
      description = ''
        The public keys by which {file}`SHA256SUMS.gpg` must be signed, as {command}`gpg --export` writes them. Null:
        whoever can change what is at {option}`sane.image.updates.url` decides what the machine runs.
      '';
    };
  };
}
