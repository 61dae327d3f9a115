# The derivation that makes an image. It is NOT a NixOS module: module.nix calls it with what the
# options say, and flake.nix offers it as `lib.mkImage` for systems that know no NixOS modules.
#
# One run of sane-image on one JSON spec makes the whole image. No finished image is copied.
{
  # The host's packages. Whatever runs now comes from their `buildPackages`: a cross-built host needs
  # no emulation.
  pkgs,
  # The system to boot, as `config.system.build.toplevel`.
  toplevel,
  # As `config.fileSystems`. sane-image finds the ESP and the filesystem of the store in it.
  fileSystems,
  # Where the ESP is mounted; null for an image without one. If it is not /boot, that is a directory of the
  # filesystem that holds the store.
  efiSysMountPoint ? "/boot",
  # Where the XBOOTLDR partition is mounted, on which systemd-boot has its entries and kernels; null for an image
  # without one. The ESP beside it has `espSize` bytes.
  xbootldrMountPoint ? null,
  espSize ? null,
  # The image is `<name>.img`, or what the format makes of it.
  name ? "nixos",
  # The roots of the closure that lands in the image; `toplevel` must be in it.
  storeContents ? [ toplevel ],
  # sane-image itself, for the machine that builds.
  package ? pkgs.buildPackages.callPackage ./package.nix { },
  # Whether the finished image is read again and proved.
  verify ? false,
  # What it is written as: one of formats.nix, or a list of them.
  format ? "raw",
  # From 1 to 22, where the format is compressed with zstd.
  compressionLevel ? 3,
  # Whether a block map is made for the formats that it is for.
  blockMap ? false,
  # Whether the image has Nix's database of its store paths.
  nixDatabase ? false,
  # More arguments for `sane-image build`; the bytes of the image do not depend on them.
  extraBuildFlags ? [ ],
  # All else goes into the spec: populateCmd, extraBootFiles, extraDirectories, files, sectorSize,
  # extraGPTPadding, firstPartGap, bootPartSize, nixFreeSpace, diskSize, extraPartitions, hybridMbr,
  # installBootloader, erofsCompression, verity, uki, updates. The options of module.nix explain them; what is
  # left out has sane-image's own default. So do systemdBoot, grub and limine: null, or a set as boot-loaders/
  # makes it, of which only `efiStub`, `mkimage`, or `package` and `tool` are required.
  ...
}@args:
let
  inherit (pkgs) buildPackages lib;
  inherit (import ./formats.nix)
    extensions
    toList
    withBlockMap
    withLevel
    ;

  closureInfo = buildPackages.closureInfo { rootPaths = storeContents; };

  # The paths in the spec carry their context, so that the closure is there when the image is built.
  spec = buildPackages.writeText "${name}-spec.json" (
    builtins.toJSON (
      removeAttrs args [
        "pkgs"
        "storeContents"
        "package"
        "blockMap"
        "compressionLevel"
        "extraBuildFlags"
        "format"
        "nixDatabase"
        "verify"
        "xbootldrMountPoint"
        "espSize"
      ]
      // lib.optionalAttrs (xbootldrMountPoint != null) (
        { inherit xbootldrMountPoint; } // lib.optionalAttrs (espSize != null) { inherit espSize; }
      )
      // lib.optionalAttrs nixDatabase {
        nixDatabase = "${import ./database.nix { inherit buildPackages closureInfo name; }}";
      }
      // {
        version = 1;
        inherit (builtins) storeDir;
        inherit
          closureInfo
          efiSysMountPoint
          name
          toplevel
          ;
        fileSystems = lib.mapAttrs' (
          key: fs:
          lib.nameValuePair (fs.mountPoint or key) (
            # sane-image refuses what it does not know, and NixOS says much more of a filesystem.
            lib.getAttrs (lib.filter (field: fs ? ${field}) [
              "device"
              "fsType"
              "options"
            ]) fs
          )
        ) (lib.filterAttrs (_: fs: fs.enable or true) fileSystems);
      }
    )
  );

  # A program `<name>-<command>` that runs `sane-image <command>` on the spec, for the machine that builds. So
  # neither needs an image in the store.
  program =
    {
      command,
      tools ? [ ],
      before ? "",
    }:
    buildPackages.writeShellScriptBin "${name}-${command}" ''
      export PATH=${lib.makeBinPath ([ package ] ++ tools)}:$PATH
      ${before}exec sane-image ${command} ${spec} "$@"
    '';

  # QEMU brings the firmware of all machines that start by UEFI. U-Boot is a package of the host's, and a
  # file for whoever runs it; it is there only where nothing else starts the host.
  uBoot =
    let
      inherit (pkgs.stdenv) hostPlatform;
    in
    if lib.any (loader: args.${loader} or null != null) [ "grub" "limine" "systemdBoot" ] then
      null
    else if hostPlatform.isAarch64 then
      {
        board = "qemu_arm64";
        package = pkgs.ubootQemuAarch64;
      }
    else if hostPlatform.isAarch32 then
      {
        board = "qemu_arm";
        package = pkgs.ubootQemuArm;
      }
    else if hostPlatform.isRiscV64 then
      {
        board = "qemu-riscv64_smode";
        package = pkgs.ubootQemuRiscv64Smode;
      }
    else
      null;
  uBootForQemu = buildPackages.runCommand "u-boot-for-qemu" { } ''
    mkdir --parents "$out/${uBoot.board}"
    ln --symbolic ${uBoot.package}/u-boot.bin "$out/${uBoot.board}"
  '';

  # A derivation that runs `sane-image build` with `flags`, then `after`.
  build =
    {
      name,
      flags ? [ ],
      after ? "",
      passthru ? { },
      # Whether there is a whole image, which can be verified.
      isWhole ? true,
    }:
    buildPackages.stdenvNoCC.mkDerivation {
      inherit name spec passthru;
      __structuredAttrs = true;

      # The image has the bytes of its closure. If Nix took the store paths in them for references, the image
      # would keep its closure from garbage collection.
      unsafeDiscardReferences.out = true;

      nativeBuildInputs = [ package ];
      buildFlags = flags ++ lib.optional (verify && isWhole) "--verify" ++ extraBuildFlags;
      buildCommand = ''
        out=''${outputs[out]}
        sane-image build "$spec" --out "$out" --jobs "$NIX_BUILD_CORES" "''${buildFlags[@]}"
      ''
      + after;
    };
  fileOf =
    format:
    "${name}.${
      extensions.${format} or (throw ''
        format: "${format}" is none of ${lib.concatStringsSep ", " (lib.attrNames extensions)}
      '')
    }";

  # What makes an image in these formats. The defaults are sane-image's own.
  formatFlags =
    formats:
    let
      isOneOf = lib.any (format: lib.elem format formats);
    in
    lib.optionals (formats != [ "raw" ]) [
      "--format"
      (lib.concatStringsSep "," formats)
    ]
    ++ lib.optionals (compressionLevel != 3 && isOneOf withLevel) [
      "--level"
      (toString compressionLevel)
    ]
    ++ lib.optional (blockMap && isOneOf withBlockMap) "--bmap";

  # The image in these formats.
  image =
    formats:
    build {
      name = lib.concatStringsSep "-" (
        [ "${name}-image" ] ++ lib.optionals (formats != [ "raw" ]) formats
      );
      flags = formatFlags formats;
      after = ''
        mkdir "$out/nix-support"
        for file in ${lib.concatMapStringsSep " " (format: lib.escapeShellArg (fileOf format)) formats}; do
          echo "file disk-image $out/$file"
        done > "$out/nix-support/hydra-build-products"
      '';
      passthru = {
        # Its closure is all that the image is made of: a cache that has it needs no image.
        inherit spec closureInfo;

        # `nix run .#imgs.myhost.flash -- /dev/sdX` and `nix run .#imgs.myhost.vm`.
        flash = program { command = "flash"; };
        vm = program {
          command = "vm";
          tools = [ buildPackages.qemu ];
          before = lib.optionalString (uBoot != null) ''
            export SANE_IMAGE_FIRMWARE=''${SANE_IMAGE_FIRMWARE:+$SANE_IMAGE_FIRMWARE:}${uBootForQemu}
          '';
        };

        # Where in `$out` the image is; the first of them, if there are several.
        filePath = fileOf (lib.head formats);

        # The filesystem of one partition as `$out` itself, equal to the byte to its slice of the image in
        # the host's formats. bootFsImg is below.
        nixFsImg = build {
          name = "${name}-nix.img";
          flags = [
            "--only"
            "nix"
          ]
          # Its disk is larger, and the filesystem fills it.
          ++ lib.optionals (lib.elem "gce" formats) [
            "--format"
            "gce"
          ];
        };

        # The image before installBootloader ran.
        withoutBootloader = build {
          name = "${name}-image-without-bootloader";
          flags = formatFlags formats ++ [ "--no-bootloader" ];
        };
      }
      // lib.optionalAttrs (efiSysMountPoint != null) {
        bootFsImg = build {
          name = "${name}-boot.img";
          flags = [
            "--only"
            "boot"
          ];
        };
      }
      # What a machine that has another version of it downloads.
      // lib.optionalAttrs (args.updates or null != null) {
        update = build {
          name = "${name}-update";
          flags = [
            "--split=only"
          ]
          ++ lib.optionals (compressionLevel != 3) [
            "--level"
            (toString compressionLevel)
          ];
          isWhole = false;
        };
      }
      # The same image in one format, whichever it is.
      // lib.mapAttrs (format: _: image [ format ]) extensions;
    };
in
image (toList format)
