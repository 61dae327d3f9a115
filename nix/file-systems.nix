# Finds which of the host's filesystems the image has, and the mistakes in them. It is NOT a NixOS module:
# module.nix calls it.
#
# sane-image would refuse the same mistakes, but only after the whole system is built. It checks the
# details. Options that a nixpkgs may lack are read with `or`.
{
  bootLoaders,
  config,
  lib,
}:
let
  image = config.sane.image;
  luks = config.boot.initrd.luks.devices or { };

  all = lib.filter (fs: fs.enable or true) (lib.attrValues config.fileSystems);
  mountedAt = mountPoint: lib.findFirst (fs: fs.mountPoint == mountPoint) null all;

  # The nearest mount at or above a path; null if the host has none.
  above =
    path:
    let
      fs = mountedAt path;
    in
    if fs != null || path == "/" then fs else above (dirOf path);

  # What holds the store: the nearest, or what /nix/store is bound from, as in /usr; null if the host has none.
  nixFs = if isBound then above nearest.device else nearest;
  nearest = above "/nix/store";
  isBound =
    nearest != null
    && nearest.mountPoint == "/nix/store"
    && isBind nearest
    && lib.hasPrefix "/" (toString nearest.device)
    && (image.verity.enable || (above nearest.device).fsType or null == "erofs");
  # Whether nobody can write to the store: ever, or as it is mounted.
  isSealed = nixFs != null && (nixFs.fsType == "erofs" || image.verity.enable);
  isReadOnly = nixFs != null && (isSealed || lib.elem "ro" nixFs.options);
  bootFs = mountedAt "/boot";

  option = mountPoint: ''fileSystems."${mountPoint}"'';
  isFat = mountPoint: (mountedAt mountPoint).fsType or null == "vfat";

  # What has kernels in the place of the ESP; null for none.
  xbootldr = bootLoaders.xbootldrMountPoint;

  # Where the boot loader looks for the ESP, and where the host has it; null if nowhere.
  wanted = bootLoaders.efiSysMountPoint;
  espMountPoint = lib.findFirst (mountPoint: mountPoint != xbootldr && isFat mountPoint) null [
    wanted
    "/boot"
    "/boot/efi"
    "/efi"
  ];
  espFs = if espMountPoint == null then null else mountedAt espMountPoint;

  # A FAT of the host beside which U-Boot would not look for extlinux.conf: of a disk with an ESP, or with
  # another partition that counts as bootable, it reads no other.
  apart =
    if image.populateCmd == null || isFat "/boot" then
      null
    else
      lib.findFirst isFat null [
        wanted
        "/boot/efi"
        "/efi"
        "/boot/firmware"
      ];

  isBind = fs: lib.elem "bind" fs.options || lib.elem "rbind" fs.options;
  # The last one is for those who ask for it.
  nixTypes = [
    "ext4"
    "btrfs"
    "erofs"
  ];
  # Whether a mount shows the filesystem that holds the store. Where a bind mount leads is for sane-image to see.
  isOnNixFs =
    fs:
    nixFs != null
    && fs != null
    && (
      fs.mountPoint == nixFs.mountPoint
      || isBind fs
      || fs.fsType == "btrfs" && fs.device == nixFs.device
    );

  # `fs` is null if there is none at `mountPoint`.
  mistakesOf =
    fs: mountPoint: fsTypes:
    let
      this = option fs.mountPoint;
      types = lib.concatMapStringsSep " or " (fsType: ''"${fsType}"'') (lib.remove "erofs" fsTypes);
      setAll = at: "set ${option at}.fsType to ${types}, and its device";
      # Where the store could lie while `fs` stays as it is.
      own = if fs.mountPoint == "/" then "/nix" else fs.mountPoint;
      wrong =
        if image.verity.enable && fs.mountPoint == nixFs.mountPoint then
          mistakeOfSealed fs.device
        else
          mistakeOfDevice fs.device;
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
    else if isBind fs then
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
    else if lib.elem device sealedDevices then
      generic // { besides = ", or sane.image.verity.enable to true"; }
    else
      generic;

  # As systemd calls what it opens by `usrhash=` and `roothash=`.
  sealedDevices = [
    "/dev/mapper/usr"
    "/dev/mapper/root"
  ];
  mistakeOfSealed =
    device:
    if lib.elem device sealedDevices then
      null
    else
      {
        problem = "but a store that dm-verity seals has another";
        remedy = ''"/dev/mapper/usr"'';
        besides = ", or sane.image.verity.enable to false";
      };

  # What is wrong with /boot if it is not the ESP.
  mistakesOfBoot =
    let
      root = mountedAt "/";
      remove = lib.optionalString (isOnNixFs root) (
        "remove ${option "/boot"}, and /boot is a directory of the filesystem that holds the store"
      );
      orRemove = lib.optionalString (remove != "") ", or ${remove}";
    in
    if apart != null then
      [
        (
          (
            if bootFs == null then
              "${option "/boot"} is missing"
            else
              ''${option "/boot"}.fsType is "${bootFs.fsType}"''
          )
          + " and ${option apart} the host's FAT, but U-Boot reads extlinux.conf from a FAT at /boot; "
          + "rename ${option apart} to ${option "/boot"}"
          + lib.optionalString (apart == wanted) '', and set boot.loader.efi.efiSysMountPoint to "/boot"''
        )
      ]
    else if xbootldr == "/boot" || espMountPoint == "/boot" || isOnNixFs (if bootFs != null then bootFs else root) then
      [ ]
    else if bootFs == null then
      # Of a store that is nowhere in the image, enough is said.
      lib.optional (bootLoaders.fillsBoot && lib.elem nixFs.fsType or null nixTypes) (
        "${option "/boot"} is missing, and ${option "/"} is not in the image, so that /boot would be empty; set "
        + ''${option "/boot"}.fsType to "vfat", and its device''
      )
    else if espFs == null then
      map (mistake: mistake + orRemove) (mistakesOf bootFs "/boot" [ "vfat" ])
    else
      [
        (
          "${option "/boot"} is a filesystem of its own beside the ESP, ${option espMountPoint}, but an image has "
          + "no other boot partition; "
          + (if remove != "" then remove else "make ${option "/boot"} the ESP")
        )
      ];
in
{
  # The store's path by the mount of its filesystem.
  store = if isBound then nearest.device else "/nix/store";

  inherit
    above
    apart
    espFs
    isReadOnly
    isSealed
    nixFs
    ofTag
    ;

  # Where the image's ESP is mounted; null if it has none.
  efiSysMountPoint = espMountPoint;
  xbootldrMountPoint = xbootldr;

  # Why the host cannot have an image. The store comes first: it is the most work to change.
  errors =
    mistakesOf nixFs "/" nixTypes
    ++ (
      if espFs != null then
        mistakesOf espFs espMountPoint [ "vfat" ]
      else
        lib.optionals bootLoaders.needsEsp (mistakesOf (mountedAt wanted) wanted [ "vfat" ])
    )
    ++ lib.optionals (xbootldr != null) (mistakesOf (mountedAt xbootldr) xbootldr [ "vfat" ])
    ++ lib.optional (bootLoaders.needsEsp && espFs != null && espMountPoint != wanted) (
      ''boot.loader.efi.efiSysMountPoint is "${wanted}", but the host has its ESP at ${espMountPoint}; set it to ''
      + ''"${espMountPoint}", or make ${option wanted} the ESP''
    )
    # Of a missing ESP at /boot, all is said.
    ++ lib.optionals (!(espFs == null && bootLoaders.needsEsp && wanted == "/boot")) mistakesOfBoot;
}
