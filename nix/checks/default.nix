# What `run` evaluates and builds. With `nixpkgs`, the modules are evaluated by its `lib`; packages are
# always the stand-in's, which can be built offline.
{
  nixpkgs ? null,
  system ? builtins.currentSystem,
  # The program `sane-image` of this machine, for what is built.
  tool ? null,
}:
let
  lib = if nixpkgs == null then import ./standin/lib.nix else import (nixpkgs + "/lib");
  pkgs = import ./standin/pkgs.nix { inherit lib system; };
  hosts = import ./hosts.nix { inherit lib pkgs; };

  package =
    if tool == null then
      pkgs.writeScriptBin "sane-image" ""
    else
      pkgs.runCommand "sane-image" { tool = /. + tool; } ''
        mkdir -p "$out/bin"
        cp "$tool" "$out/bin/sane-image"
      '';

  evaluate =
    modules:
    lib.evalModules {
      specialArgs = {
        inherit pkgs;
        modulesPath = toString ./standin;
      };
      modules = [
        ./standin/nixos.nix
        ../module.nix
        {
          nix.package = pkgs.writeText "nix" "";
          sane.image.package = lib.mkDefault package;
          system.build.toplevel = lib.mkDefault (pkgs.writeText "nixos-system" "");
        }
      ]
      ++ modules;
    };
  example = import ./example-host.nix { inherit pkgs uBoot; };
  uefi = import ./example-uefi.nix { inherit example pkgs; };
  grubOn = import ./example-grub.nix { inherit example pkgs; };
  uBoot = pkgs.runCommand "u-boot.bin" { } ''seq 100000 > "$out"'';
  # The example with its store on a filesystem of its own that nobody can write to.
  closed =
    store:
    example
    // {
      fileSystems = {
        inherit (example.fileSystems) "/boot";
        "/" = {
          device = "none";
          fsType = "tmpfs";
        };
        "/nix/store" = example.fileSystems."/" // store;
      };
      sane.image = removeAttrs example.sane.image [
        "extraDirectories"
        "files"
        "nixFreeSpace"
      ];
    };
  places =
    lib.mapAttrs
      (
        _: mountPoint:
        example
        // {
          fileSystems = {
            "/boot" = example.fileSystems."/boot";
            "/" = {
              device = "none";
              fsType = "tmpfs";
            };
          }
          // {
            ${mountPoint} = example.fileSystems."/";
          };
          sane.image =
            removeAttrs example.sane.image [
              "extraDirectories"
              "files"
            ]
            // {
              growNixPartition = true;
              # A partition table in an odd place survives.
              extraGPTPadding = 1024 * 1024;
            };
        }
      )
      {
        root = "/";
        nix = "/nix";
        store = "/nix/store";
      }
    # With a database that comes with the image.
    // {
      known = example // {
        sane.image = example.sane.image // {
          nixDatabase = true;
          growNixPartition = true;
        };
      };
      read-only = closed { options = [ "ro" ]; };
      erofs = closed { fsType = "erofs"; };
    };

  configOf =
    host:
    (evaluate [
      ./standin/today.nix
      host
    ]).config;
  imageOf = host: (configOf host).system.build.img;
  # Its paths are for reading, not for building.
  specOf = img: builtins.fromJSON (builtins.unsafeDiscardStringContext img.spec.text);
in
{
  specs = lib.mapAttrs (_: host: specOf (imageOf host)) hosts.specs // {
    # Without NixOS modules: what is left out is for sane-image to fill in.
    mk-image = specOf (
      import ../image.nix {
        inherit package pkgs;
        inherit (hosts.specs.boot-and-root) fileSystems;
        toplevel = pkgs.writeText "some-system" "";
        name = "small";
        bootPartSize = 64 * 1024 * 1024;
        systemdBoot.efiStub = "${pkgs.writeText "systemd" ""}/lib/systemd/boot/efi";
      }
    );
    systemd-boot-old-nixpkgs = specOf (evaluate [ hosts.old-nixpkgs ]).config.system.build.img;
  };
  options = lib.mapAttrs (
    _: host:
    let
      img = imageOf host;
    in
    specOf img
    // {
      # What is not in the spec but of interest.
      ".closureInfo of" = map (root: root.name) img.closureInfo.exportReferencesGraph.closure;
      ".arguments" = img.buildFlags;
      ".derivation" = img.name;
      ".filePath" = img.filePath;
      ".services" = lib.attrNames (configOf host).systemd.services;
    }
  ) ({ base = hosts.specs.boot-and-root; } // hosts.options);

  # To be asked for one at a time: the first error ends an evaluation.
  errors = lib.mapAttrs (_: host: (imageOf host).drvPath) hosts.errors;
  refused = lib.mapAttrs (_: host: (imageOf host).drvPath) hosts.refused;
  warned = lib.mapAttrs (_: host: (imageOf host).drvPath) hosts.warned;
  common = lib.mapAttrs (_: host: (imageOf host).drvPath) (import ./common-hosts.nix);
  commonNames = lib.attrNames (import ./common-hosts.nix);
  warnedNames = lib.attrNames hosts.warned;
  errorNames = lib.attrNames hosts.errors;
  refusedNames = lib.attrNames hosts.refused;

  # What such a host still has.
  harmless =
    lib.mapAttrs
      (
        _: host:
        let
          config = configOf host;
        in
        {
          toplevel = config.system.build.toplevel.name;
          targets = lib.attrNames config.system.build;
          services = lib.attrNames config.systemd.services;
        }
      )
      {
        inherit (hosts) disabled;
        inherit (hosts.errors) nothing no-boot all-at-once;
      };

  # A nixpkgs that has variants of images gets one that is the image itself, and one for each format.
  variants =
    let
      imagesOption = {
        options.image.modules = lib.mkOption { type = lib.types.attrsOf lib.types.deferredModule; };
      };
      host = hosts.specs.boot-and-root;
      inherit
        (evaluate [
          imagesOption
          host
        ])
        config
        ;
      describe =
        name: module:
        let
          variant =
            (evaluate [
              imagesOption
              host
              module
            ]).config;
          inherit (variant.system.build) image;
        in
        {
          inherit (variant.image) filePath;
          arguments = image.buildFlags;
          isTheImage = image.drvPath == config.system.build.img.drvPath;
          isTheFile = variant.image.filePath == image.filePath;
        };
    in
    lib.mapAttrs describe config.image.modules;

  # The image in one format, whichever the host has: how it is made.
  formats =
    let
      of = host: lib.mapAttrs (format: _: (imageOf host).${format}) (import ../formats.nix).extensions;
      facts = img: {
        inherit (img) filePath;
        arguments = img.buildFlags;
      };
      host = hosts.options.format-list;
    in
    {
      raw = lib.mapAttrs (_: facts) (of hosts.specs.boot-and-root);
      list = lib.mapAttrs (_: facts) (of host);
      withoutBootloader = (imageOf host).withoutBootloader.buildFlags;
    };
  # The format that a host has is the image itself.
  formatIsTheImage =
    (imageOf hosts.specs.boot-and-root).raw.drvPath == (imageOf hosts.specs.boot-and-root).drvPath
    && (imageOf hosts.options.format)."qcow2+zstd".drvPath == (imageOf hosts.options.format).drvPath;
  noFormat =
    (import ../image.nix {
      inherit package pkgs;
      inherit (hosts.specs.boot-and-root) fileSystems;
      toplevel = pkgs.writeText "some-system" "";
      format = "iso";
    }).drvPath;

  # What flashes a host and boots it: the scripts. A host that starts by U-Boot brings that for its machine.
  programs =
    let
      scripts = img: lib.mapAttrs (_: script: script.text) { inherit (img) flash vm; };
      board =
        platform:
        import ../image.nix {
          inherit package;
          inherit (hosts.specs.boot-and-root) fileSystems;
          toplevel = pkgs.writeText "some-system" "";
          name = "board";
          pkgs = pkgs // {
            stdenv.hostPlatform = pkgs.stdenv.hostPlatform // platform;
            ubootQemuAarch64 = "/u-boot-aarch64";
            ubootQemuRiscv64Smode = "/u-boot-riscv64";
          };
        };
    in
    {
      uefi = scripts (imageOf hosts.specs.systemd-boot);
      bios = scripts (board { });
      aarch64 = scripts (board { isAarch64 = true; });
      riscv64 = scripts (board { isRiscV64 = true; });
    };

  # What the host itself has besides its image.
  appliance =
    let
      config = configOf hosts.specs.appliance;
    in
    {
      inherit (config.boot) kernelParams;
      inherit (config.systemd.sysupdate) transfers;
      nix = config.nix.settings;
      update = config.system.build.img.update.buildFlags;
      etc = lib.mapAttrs (_: file: file.source) config.environment.etc;
      services = lib.mapAttrs (_: service: removeAttrs service [ "script" ]) config.systemd.services;
    };

  # Neither the image nor its parts nor the way they are made may be the same derivation.
  derivations =
    let
      img = imageOf hosts.specs.boot-and-root;
    in
    lib.mapAttrs (_: drv: drv.drvPath) {
      inherit img;
      inherit (img)
        bootFsImg
        nixFsImg
        withoutBootloader
        spec
        closureInfo
        flash
        vm
        zst
        qcow2
        "qcow2+zstd"
        vmdk
        vhd
        vhdx
        gce
        ;
    };

  example = imageOf example;
  inFormats = imageOf (
    example
    // {
      sane.image = example.sane.image // {
        blockMap = true;
        format = [
          "raw"
          "zst"
          "qcow2"
          "vmdk"
          "vhd"
          "vhdx"
        ];
      };
    }
  );
  forGoogle = imageOf (
    example
    // {
      sane.image = example.sane.image // {
        format = [
          "raw"
          "gce"
        ];
      };
    }
  );
  withoutEsp = imageOf (
    example
    // {
      fileSystems = removeAttrs example.fileSystems [ "/boot" ];
    }
  );
  sized = imageOf (
    example
    // {
      sane.image = example.sane.image // {
        diskSize = 512 * 1024 * 1024;
      };
    }
  );
  inherit (example.system.build) toplevel;
  malformed = imageOf (
    example
    // {
      fileSystems = example.fileSystems // {
        "/" = {
          device = "/dev/disk/by-uuid/my-uuid";
          fsType = "ext4";
        };
      };
    }
  );
  inherit uBoot;

  # By a BIOS alone, and by UEFI, too, with /boot on the ESP and beside it.
  grub = lib.mapAttrs (_: fileSystems: imageOf (grubOn fileSystems)) {
    bios = { inherit (example.fileSystems) "/"; };
    hybrid = example.fileSystems;
    beside = {
      "/boot/efi" = example.fileSystems."/boot";
      inherit (example.fileSystems) "/";
    };
  };

  sealed = imageOf (
    import ./example-appliance.nix {
      inherit closed pkgs;
      inherit (uefi.system.build) toplevel;
    }
  );
  # Nix's database of the example's paths, and that of a list of them in another order.
  databases =
    let
      of =
        closureInfo:
        import ../database.nix {
          inherit closureInfo;
          inherit (pkgs) buildPackages;
          name = "nixos";
        };
      inherit (imageOf example) closureInfo;
    in
    {
      plain = of closureInfo;
      # All paths backwards, and the references of each.
      backwards = of (
        pkgs.runCommand "backwards" { inherit closureInfo; } ''
          mkdir "$out"
          awk '
            {
              if (at < 5) { head = head $0 "\n"; if (++at == 5) left = $0 }
              else { references = $0 "\n" references; left-- }
              if (at == 5 && left == 0) { all = head references all; head = references = ""; at = 0 }
            }
            END { printf "%s", all }
          ' "$closureInfo/registration" > "$out/registration"
        ''
      );
    };

  uefi = imageOf uefi;
  uefiHost = {
    inherit (uefi.system.build) toplevel platformPartition;
    data = (builtins.elemAt uefi.sane.image.extraPartitions 1).contents;
  };

  # The example with the store's filesystem mounted at each place where it may be.
  places = lib.mapAttrs (
    _: host:
    let
      config = configOf host;
    in
    {
      inherit (config.system.build) img;
      services = lib.mapAttrs (_: service: removeAttrs service [ "script" ]) config.systemd.services;
      # Not every place has each of them.
      register = config.systemd.services.sane-image-register.script or null;
      grow = config.systemd.services.sane-image-grow.script or null;
      database = config.systemd.services.sane-image-database.script or null;
    }
  ) places;
}
