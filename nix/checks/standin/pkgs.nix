# A stand-in for the part of nixpkgs' package set that this repository uses: derivations that can be
# built with the programs of the machine, since nothing of the real stdenv can be had offline.
{
  lib,
  # Where builders find the machine's programs.
  path ? "/usr/bin:/bin",
  shell ? "/bin/bash",
  system,
}:
let
  # What Nix makes of structured attributes lies in the build's top directory; the variables that say
  # so are wrong in old Nix's sandbox.
  setup = builtins.toFile "setup.sh" ''
    set -euo pipefail
    . "$NIX_BUILD_TOP/.attrs.sh"
    export PATH=$searchPath
    for output in "''${!outputs[@]}"; do
      export "$output=''${outputs[$output]}"
    done
    if (( NIX_BUILD_CORES == 0 )); then
      NIX_BUILD_CORES=$(nproc)
    fi
    eval "$buildCommand"
  '';

  mkDerivation =
    {
      nativeBuildInputs ? [ ],
      passthru ? { },
      ...
    }@args:
    derivation (
      removeAttrs args [
        "nativeBuildInputs"
        "passthru"
      ]
      // {
        inherit system;
        __structuredAttrs = true;
        builder = shell;
        args = [ setup ];
        outputs = [ "out" ];
        searchPath = lib.concatStringsSep ":" (map (input: "${input}/bin") nativeBuildInputs ++ [ path ]);
      }
    )
    // passthru;

  # A package of GRUB, the machine's, which can be made for UEFI, too.
  grub =
    { bios, efi }:
    let
      make =
        {
          efiSupport ? false,
          zfsSupport ? false,
          zfs ? null,
        }:
        let
          grubTarget = if efiSupport then efi else bios;
          parts = lib.optional efiSupport "efi" ++ lib.optional zfsSupport "with-${baseNameOf zfs}";
        in
        mkDerivation {
          name = lib.concatStringsSep "-" ([ "grub" ] ++ parts ++ [ "2.12" ]);
          buildCommand = ''
            mkdir -p "$out/bin" "$out/lib/grub" "$out/share/grub"
            cp /usr/bin/grub-mkimage "$out/bin"
            cp --recursive /usr/lib/grub/${grubTarget} "$out/lib/grub"
            cp /usr/share/grub/unicode.pf2 "$out/share/grub"
          '';
          passthru = {
            pname = "grub";
            version = "2.12";
            inherit grubTarget;
            override = more: make ({ inherit efiSupport zfs zfsSupport; } // more);
          };
        };
    in
    make { };

  pkgs = {
    inherit lib;
    buildPackages = pkgs;
    stdenvNoCC = { inherit mkDerivation; };
    stdenv.hostPlatform = {
      isAarch64 = false;
      isAarch32 = false;
      isRiscV64 = false;
      isx86 = true;
      efiArch = "x64";
    };

    grub2 = grub {
      bios = "i386-pc";
      efi = "x86_64-efi";
    };
    pkgsi686Linux.grub2 = grub {
      bios = "i386-pc";
      efi = "i386-efi";
    };

    # Named after what they hold, so that a golden shows which are used.
    util-linux = "/util-linux";
    e2fsprogs = "/e2fsprogs";
    btrfs-progs = "/btrfs-progs";
    gnupgMinimal = "/gnupg";
    nix = "/nix-for-builds";
    sqlite = "/sqlite";
    qemu = "/qemu";

    runCommand =
      name: attrs: buildCommand:
      mkDerivation (attrs // { inherit name buildCommand; });

    writeText =
      name: text:
      mkDerivation {
        inherit name text;
        buildCommand = ''printf %s "$text" > "$out"'';
        passthru = { inherit text; };
      };

    writeScriptBin =
      name: text:
      mkDerivation {
        inherit name text;
        buildCommand = ''
          mkdir -p "$out/bin"
          printf %s "$text" > "$out/bin/$name"
          chmod +x "$out/bin/$name"
        '';
        passthru = { inherit text; };
      };

    writeShellScriptBin = name: text: pkgs.writeScriptBin name "#!${shell}\n${text}";

    # Nix's own record of a closure, in the form that `nix-store --load-db` reads.
    closureInfo =
      { rootPaths }:
      mkDerivation {
        name = "closure-info";
        exportReferencesGraph.closure = rootPaths;
        buildCommand = ''
          mkdir "$out"
          graph=$NIX_BUILD_TOP/.attrs.json
          jq --raw-output '.closure[].path' "$graph" > "$out/store-paths"
          jq --raw-output '.closure[]
            | .path, .narHash, .narSize, "", (.references | length), .references[]
          ' "$graph" > "$out/registration"
        '';
      };
  };
in
pkgs
