# `checks` of the flake, for machines that Nix made: what `run` cannot do without nixpkgs.
{ pkgs, self }:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;

  # The module as evaluated with the real `lib`, against the same goldens.
  evaluated = import ./. {
    inherit system;
    nixpkgs = pkgs.path;
  };
  module =
    pkgs.runCommand "sane-image-module-goldens"
      {
        nativeBuildInputs = [ pkgs.jq ];
        specs = builtins.unsafeDiscardStringContext (builtins.toJSON evaluated.specs);
        options = import ./options.nix;
        passAsFile = [
          "specs"
          "options"
        ];
      }
      ''
        diff --unified ${../../docs/reference/options.md} "$optionsPath"
        for golden in ${./goldens}/spec-*.json; do
          host=$(basename "$golden" .json)
          jq --sort-keys ".\"''${host#spec-}\"" "$specsPath" |
            sed --regexp-extended 's#/nix/store/[0-9a-z]{32}-#/nix/store/…-#g' |
            diff --unified "$golden" -
        done
        touch "$out"
      '';

  formatting =
    pkgs.runCommand "sane-image-formatting"
      {
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.nixfmt
          pkgs.rustfmt
        ];
      }
      ''
        cd ${self}
        export CARGO_HOME=$TMPDIR
        find . -name '*.nix' -exec nixfmt --check {} +
        cargo fmt --check
        touch "$out"
      '';

  # All tests but those in virtual machines; the package itself has some of them. Nobody is root in a build, and a
  # browser and QEMU would be large for a test each: the lines SKIPPED of the log say what that leaves out.
  tests = self.packages.${system}.default.overrideAttrs (old: {
    pname = "sane-image-tests";
    nativeCheckInputs =
      old.nativeCheckInputs
      ++ (with pkgs; [
        libxml2
        nix
        python3
        util-linux
      ]);
    cargoCheckType = "debug";
    cargoTestFlags = [
      "--lib"
      "--bins"
      "--test=it"
      "--test=replay"
    ];
    checkFlags = [ ];
    buildPhase = "true";
    installPhase = "touch $out";
  });

  # What independent tools say of an example's image.
  sound =
    name: img:
    pkgs.runCommand "sane-image-sound-${name}"
      {
        nativeBuildInputs = with pkgs; [
          btrfs-progs
          dosfstools
          e2fsprogs
          erofs-utils
          jq
          util-linux
        ];
      }
      ''
        sector=$(jq .sectorSize ${img}/layout.json)
        sfdisk --sector-size "$sector" --verify ${img}/nixos.img
        cmp <(jq --raw-output '.partitions[].offset' ${img}/layout.json) \
          <(sfdisk --sector-size "$sector" --json ${img}/nixos.img |
            jq ".partitiontable.partitions[].start * $sector")
        ${lib.optionalString (img ? bootFsImg) "fsck.fat -n ${img.bootFsImg}"}
        case $(jq --raw-output '.partitions[] | select(.role == "nix").filesystem.type' ${img}/layout.json) in
        ext4) e2fsck -fn ${img.nixFsImg} ;;
        btrfs) btrfs check --check-data-csum ${img.nixFsImg} ;;
        erofs) fsck.erofs ${img.nixFsImg} ;;
        *) exit 1 ;;
        esac
        touch "$out"
      '';
  # Of the hosts for this system.
  examples = lib.filterAttrs (
    _name: host: host.config.nixpkgs.hostPlatform.system == system
  ) self.nixosConfigurations;
in
{
  inherit formatting module tests;
}
// lib.mapAttrs' (
  name: host: lib.nameValuePair "sound-${name}" (sound name host.config.system.build.img)
) examples
// lib.optionalAttrs (lib.elem system [
  "x86_64-linux"
  "aarch64-linux"
]) { boot = pkgs.testers.runNixOSTest (import ./boot.nix { inherit self; }); }
// lib.optionalAttrs (system == "x86_64-linux") {
  boot-bios = pkgs.testers.runNixOSTest (
    import ./boot.nix {
      inherit self;
      firmware = "bios";
    }
  );
}
