{
  lib,
  stdenv,
  buildPackages,
  rustPlatform,
  installShellFiles,
  # For tests only.
  btrfs-progs,
  dosfstools,
  e2fsprogs,
  gptfdisk,
  mtools,
  util-linux,
}:
let
  root = ../.;
  files = lib.fileset;
  manifest = lib.importTOML ../Cargo.toml;

  # The program writes its own man pages and completions. One that is built for another machine cannot
  # run here; this machine's can.
  runnable =
    if stdenv.buildPlatform.canExecute stdenv.hostPlatform then
      placeholder "out"
    else
      buildPackages.callPackage ./package.nix { };
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  # Nothing of the Nix side, so that a change there does not build the program anew.
  src = files.toSource {
    inherit root;
    fileset = files.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      (files.maybeMissing ../benches)
      (files.maybeMissing ../tests)
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];
  # Whoever builds it proves that this program makes right images, by tools that are not ours, in about the
  # time that the program itself takes to compile less its crates. All tests are among the flake's `checks`.
  cargoTestFlags = [ "--test=it" ];
  nativeCheckInputs = [
    btrfs-progs
    dosfstools
    e2fsprogs
    gptfdisk
    mtools
    util-linux
  ];

  postInstall = ''
    mkdir man
    ${runnable}/bin/sane-image man man
    installManPage man/*
    for shell in bash fish zsh; do
      ${runnable}/bin/sane-image completions $shell > sane-image.$shell
    done
    installShellCompletion sane-image.{bash,fish,zsh}
  '';

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.mit;
    mainProgram = "sane-image";
    platforms = lib.platforms.linux;
  };
}
