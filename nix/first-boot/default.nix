# What the system does at its first boot, and with a disk that became larger: units by their names. It is NOT a NixOS
# module: module.nix calls it.
{
  config,
  fileSystems,
  lib,
  pkgs,
}:
let
  inherit (fileSystems) nixFs;

  cfg = config.sane.image;

  # Where sane-image puts the list of all store paths of the image, and Nix's database of them.
  registration = "${root}/nix-path-registration";
  database = "${root}/nix-database";
  root = lib.removeSuffix "/" nixFs.mountPoint;

  # What is in the store of a read-only filesystem, its database has: there is nothing to be added.
  copies = cfg.nixDatabase && fileSystems.isReadOnly;
  grows = cfg.growNixPartition && nixFs != null && !fileSystems.isSealed;
  registers = cfg.registerNixPaths && config.nix.enable && nixFs != null && !copies;

  # A oneshot that works on the filesystem of the store before anything else needs it.
  earlyService =
    {
      description,
      # Services that may run at the same time otherwise, if the host has them.
      after ? [ ],
      before,
      path ? [ ],
      # A file, and what it is called with.
      script,
      arguments,
      unitConfig ? { },
    }:
    {
      inherit description;
      wantedBy = [ "sysinit.target" ];
      after = [ "local-fs.target" ] ++ after;
      before = before ++ [
        "sysinit.target"
        "shutdown.target"
      ];
      conflicts = [ "shutdown.target" ];
      unitConfig = unitConfig // {
        DefaultDependencies = false;
      };
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        PrivateMounts = true;
      };
      path = path ++ [ pkgs.util-linux ];
      # The text and not its path, so that the unit is whole by itself.
      script =
        "set -- ${lib.concatMapStringsSep " " lib.escapeShellArg arguments}\n" + builtins.readFile script;
    };
in
{
  inherit registers;

  services = {
    sane-image-register = lib.mkIf registers (earlyService {
      description = "Registration of the store paths that came with the disk image";
      unitConfig.ConditionPathExists = registration;
      # Nix asks /etc/passwd and /etc/group.
      after = [
        "systemd-sysusers.service"
        "userborn.service"
      ];
      before = [
        "nix-daemon.socket"
        "nix-daemon.service"
      ];
      path = [ config.nix.package ];
      script = ./register.sh;
      arguments = [ nixFs.mountPoint ];
    });

    sane-image-database = lib.mkIf copies (earlyService {
      description = "A copy of Nix's database that came with the disk image";
      unitConfig.ConditionPathExists = database;
      before = [
        "nix-daemon.socket"
        "nix-daemon.service"
      ];
      script = ./database.sh;
      arguments = [ nixFs.mountPoint ];
    });

    sane-image-grow = lib.mkIf grows (earlyService {
      description = "Growth of the partition that holds the Nix store to the end of the disk";
      # These write to the same partition table.
      after = [
        "growpart.service"
        "systemd-repart.service"
      ];
      before = [ "sane-image-register.service" ];
      path = [ (if nixFs.fsType == "btrfs" then pkgs.btrfs-progs else pkgs.e2fsprogs) ];
      script = ./grow.sh;
      arguments = [
        nixFs.mountPoint
        nixFs.fsType
      ];
    });
  };
}
