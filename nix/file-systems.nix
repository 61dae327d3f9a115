# Finds which of the host's filesystems the image has, and the mistakes in them. It is NOT a NixOS module:
# module.nix calls it.
#
# sane-image would refuse the same mistakes, but only after the whole system is built. It checks the
# details. Options that a nixpkgs may lack are read with `or`.
{ config, lib }:
let
  inherit (config.boot.loader.efi) efiSysMountPoint;
  luks = config.boot.initrd.luks.devices or { };

  all = lib.filter (fs: fs.enable or true) (lib.attrValues config.fileSystems);
  mountedAt = mountPoint: lib.findFirst (fs: fs.mountPoint == mountPoint) null all;
  firstOf = mountPoints: lib.findFirst (fs: fs != null) null (map mountedAt mountPoints);

  # The ESP, and the nearest at or above the store; null if the host has none.
  bootFs = mountedAt "/boot";
  nixFs = firstOf [
    "/nix/store"
    "/nix"
    "/"
  ];

  option = mountPoint: ''fileSystems."${mountPoint}"'';
  isFat = fs: fs != null && fs.fsType == "vfat";

  # Where the host has the FAT filesystem that an image has at /boot, if that is elsewhere.
  elsewhere =
    if isFat bootFs then
      null
    else
      lib.findFirst (at: isFat (mountedAt at)) null [
        efiSysMountPoint
        "/boot/efi"
        "/efi"
        "/boot/firmware"
      ];
  movesEsp = elsewhere != null && elsewhere == efiSysMountPoint;

  # `fs` is null if there is none at `mountPoint`.
  mistakesOf =
    fs: mountPoint: fsTypes:
    let
      this = option fs.mountPoint;
      types = lib.concatMapStringsSep " or " (fsType: ''"${fsType}"'') fsTypes;
      setAll = at: "set ${option at}.fsType to ${types}, and its device";
      # Where the store could lie while `fs` stays as it is.
      own = if fs.mountPoint == "/" then "/nix" else fs.mountPoint;
      wrong = mistakeOfDevice fs.device;
      # Other mounts of the same filesystem.
      same = lib.filter (other: other.device == fs.device && other.mountPoint != fs.mountPoint) all;
      setDevice =
        wrong.remedy
        + lib.optionalString (fs.device != null && same != [ ]) (
          ", as that of " + lib.concatMapStringsSep ", " (other: option other.mountPoint) same
        )
        + wrong.besides or "";
    in
    if fs == null then
      [ "${option mountPoint} is missing; ${setAll mountPoint}" ]
    else if lib.elem "bind" fs.options || lib.elem "rbind" fs.options then
      [ "${this} is a bind mount, which an image does not support there; ${setAll own} and options" ]
    else if
      lib.elem fs.fsType [
        "overlay"
        "ramfs"
        "tmpfs"
      ]
    then
      [ ''${this}.fsType is "${fs.fsType}", which cannot hold the store of an image; ${setAll own}'' ]
    else if !lib.elem fs.fsType fsTypes then
      [
        (
          ''${this}.fsType is "${fs.fsType}", which an image does not support there; set it to ${types}''
          + lib.optionalString (wrong != null) ", and its device to ${setDevice}"
        )
      ]
    else
      lib.optional (wrong != null) (
        "${this}.device is ${if fs.device == null then "null" else ''"${fs.device}"''}, ${wrong.problem}; "
        + "set it to ${setDevice}"
      );

  # The path in /dev/disk for a tag of fstab, given as the list of its key and its value.
  ofTag =
    tag:
    {
      UUID = "/dev/disk/by-uuid/";
      LABEL = "/dev/disk/by-label/";
      PARTUUID = "/dev/disk/by-partuuid/";
      PARTLABEL = "/dev/disk/by-partlabel/";
    }
    .${lib.head tag}
    + lib.elemAt tag 1;

  mistakeOfDevice =
    device:
    let
      tag = builtins.match "(UUID|LABEL|PARTUUID|PARTLABEL)=(.+)" device;
      mapped = builtins.match "/dev/mapper/(.+)" device;
      opened = ''boot.initrd.luks.devices."${lib.head mapped}"'';
      generic = {
        problem = "which is no UUID or label that the image could get";
        remedy = "a path in /dev/disk/by-uuid, /dev/disk/by-label, /dev/disk/by-partuuid or /dev/disk/by-partlabel";
      };
    in
    if device == null then
      generic
    else if builtins.match "/dev/disk/by-(uuid|label|partuuid|partlabel)/[^/]+" device != null then
      null
    else if tag != null then
      generic // { remedy = ''"${ofTag tag}"''; }
    else if mapped != null && luks ? ${lib.head mapped} then
      generic
      // {
        problem = "which ${opened} decrypts, but an image has nothing encrypted";
        besides = ", and remove ${opened}";
      }
    else
      generic;
in
{
  inherit
    bootFs
    elsewhere
    nixFs
    ofTag
    ;

  # Whether `errors` says what boot.loader.efi.efiSysMountPoint must be.
  inherit movesEsp;

  # Why the host cannot have an image. The store comes first: it is the most work to change.
  errors =
    mistakesOf nixFs "/" [
      "ext4"
      "btrfs"
    ]
    ++ (
      let
        wrong = mistakeOfDevice (mountedAt elsewhere).device;
      in
      if elsewhere == null then
        mistakesOf bootFs "/boot" [ "vfat" ]
      else
        [
          (
            (
              if bootFs == null then
                "${option "/boot"} is missing"
              else
                ''${option "/boot"}.fsType is "${bootFs.fsType}"''
            )
            + " and ${option elsewhere} the host's FAT, but an image has its FAT at /boot; "
            + "rename ${option elsewhere} to ${option "/boot"}"
            + lib.optionalString (wrong != null) ", set its device to ${wrong.remedy}${wrong.besides or ""}"
            + lib.optionalString movesEsp '', and set boot.loader.efi.efiSysMountPoint to "/boot"''
          )
        ]
    );
}
