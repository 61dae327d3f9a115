{
  description = "Turns a NixOS system closure into a bootable disk image";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      forAllSystems =
        f:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
          "riscv64-linux"
        ] (system: f nixpkgs.legacyPackages.${system});

      # An example host; its file is all that a user's own flake would have.
      host =
        file:
        lib.nixosSystem {
          modules = [
            self.nixosModules.default
            file
          ];
        };
    in
    {
      packages = forAllSystems (pkgs: rec {
        sane-image = pkgs.callPackage ./nix/package.nix { };
        default = sane-image;
      });

      # For images that are there already, and for specs: `nix run github:…#flash -- IMAGE DEVICE`. Each host's
      # image has programs of its own.
      apps = forAllSystems (
        pkgs:
        let
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          command = name: description: tools: {
            type = "app";
            program = "${pkgs.writeShellScript "sane-image-${name}" ''
              export PATH=${lib.makeBinPath ([ package ] ++ tools)}:$PATH
              exec sane-image ${name} "$@"
            ''}";
            meta = { inherit description; };
          };
        in
        {
          default = {
            type = "app";
            program = lib.getExe package;
            meta = { inherit (package.meta) description; };
          };
          flash = command "flash" "Write an image or a spec to a device" [ ];
          vm = command "vm" "Boot an image or a spec in QEMU" [ pkgs.qemu ];
        }
      );

      overlays.default = final: _: {
        sane-image = final.callPackage ./nix/package.nix { };
      };

      nixosModules = rec {
        image = import ./nix/module.nix;
        default = image;
      };

      lib = {
        # An image without NixOS modules: { pkgs, toplevel, fileSystems, … }, see nix/image.nix.
        mkImage = import ./nix/image.nix;

        # The images of `nixosConfigurations`, by host.
        imgs = builtins.mapAttrs (
          name: host:
          host.config.system.build.img or (throw ''
            ${name} has no image: import sane-image.nixosModules.default, and leave sane.image.enable on
          '')
        );
      };

      nixosConfigurations = {
        aarch64-board = host ./nix/hosts/aarch64-board.nix;
        aarch64-uefi = host ./nix/hosts/aarch64-uefi.nix;
        appliance = host ./nix/hosts/appliance.nix;
        btrfs = host ./nix/hosts/btrfs.nix;
        depthcharge = host ./nix/hosts/depthcharge.nix;
        nvme-4k = host ./nix/hosts/nvme-4k.nix;
        own-files = host ./nix/hosts/own-files.nix;
        pinephone = host ./nix/hosts/pinephone.nix;
        raspberry-pi = host ./nix/hosts/raspberry-pi.nix;
        x86_64-bios = host ./nix/hosts/x86_64-bios.nix;
        x86_64-hybrid = host ./nix/hosts/x86_64-hybrid.nix;
        x86_64-uefi = host ./nix/hosts/x86_64-uefi.nix;
      };

      imgs = self.lib.imgs self.nixosConfigurations;

      checks = forAllSystems (pkgs: import ./nix/checks/flake-checks.nix { inherit pkgs self; });

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = with pkgs; [
            btrfs-progs
            cargo
            clippy
            jq
            nixfmt
            qemu-utils
            rust-analyzer
            rustc
            rustfmt
          ];
        };
      });

      # `nix fmt` for Nix; `cargo fmt` for Rust.
      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);
    };
}
