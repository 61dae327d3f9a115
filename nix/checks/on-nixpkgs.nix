# The flake on a nixpkgs that is at hand, without fetching or copying anything, and what else only a
# whole nixpkgs can show.
{ nixpkgs }:
let
  inputs = {
    self = (import ../../flake.nix).outputs inputs // {
      outPath = toString ../..;
    };
    nixpkgs = (import (nixpkgs + "/flake.nix")).outputs { self = inputs.nixpkgs; } // {
      outPath = nixpkgs;
      lastModifiedDate = "19700101000000";
    };
  };
  inherit (inputs.self) imgs nixosConfigurations packages;

  board = nixosConfigurations.aarch64-board;
  crossBoard = board.extendModules {
    modules = [ { nixpkgs.buildPlatform = "x86_64-linux"; } ];
  };
  variants = board.config.system.build.images;
  variant = variants.sane;
in
{
  inherit imgs;
  inherit (inputs.self) checks;
  package = packages.${builtins.currentSystem}.default;
  cross = crossBoard.config.system.build.img;

  # Each is to be true.
  facts = {
    "a cross-built host's image is made on the build platform, with its tool" =
      let
        inherit (crossBoard.config.system.build) img;
      in
      img.system == "x86_64-linux"
      && img.closureInfo.system == "x86_64-linux"
      && img.nativeBuildInputs == [ packages.x86_64-linux.default ];
    "a host's image is made by any machine of its platform" =
      imgs.aarch64-board.system == "aarch64-linux" && !imgs.aarch64-board ? requiredSystemFeatures;
    "the variant of images is the image" =
      variant.drvPath == imgs.aarch64-board.drvPath && variant.passthru.filePath == "nixos.img";
    "a variant in another format is what the image has under that name" =
      variants.sane-qcow2.drvPath == imgs.aarch64-board.qcow2.drvPath
      && variants.sane-qcow2.passthru.filePath == "nixos.qcow2"
      && variants.sane-gce.passthru.filePath == "nixos.tar.gz";
    "a container can have the module" =
      (inputs.nixpkgs.lib.nixosSystem {
        modules = [
          inputs.self.nixosModules.default
          {
            boot.isContainer = true;
            nixpkgs.hostPlatform = "x86_64-linux";
            system.stateVersion = "26.05";
          }
        ];
      }).config.system.build.toplevel
        ? drvPath;
    "a check is no package, and no other check" =
      let
        drvs = map (drv: drv.drvPath) (
          builtins.attrValues inputs.self.checks.x86_64-linux
          ++ [ packages.x86_64-linux.default ]
          ++ builtins.attrValues imgs
        );
      in
      inputs.nixpkgs.lib.allUnique drvs;
  };
}
