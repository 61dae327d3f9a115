//! The known mount options, and the values that each takes.

use super::super::file_system::FsType;

/// What an option takes.
pub(super) enum Takes {
    /// No value.
    Nothing,
    /// A number for which this holds.
    Number(fn(u32) -> bool),
    /// A number or no value.
    MaybeNumber,
    /// A mode of permissions.
    Octal,
    /// Minutes between two time zones.
    Minutes,
    /// One of these values.
    OneOf(&'static [&'static str]),
    /// One of these values or none.
    MaybeOneOf(&'static [&'static str]),
    /// Any value that is not empty.
    Text,
    /// Any value, or none.
    MaybeText,
    /// A way of compression.
    Compression,
    /// It is judged elsewhere, or depends on the machine.
    Unjudged,
    /// It is refused whatever its value, for this reason.
    Never(&'static str),
}

/// Options that take the same.
pub(super) struct Rule {
    /// Separated by single spaces.
    pub(super) names: &'static str,
    pub(super) takes: Takes,
}

const fn rule(names: &'static str, takes: Takes) -> Rule {
    Rule { names, takes }
}

/// All options of a format.
pub(super) fn rules(fs_type: FsType) -> &'static [Rule] {
    match fs_type {
        FsType::Ext4 => EXT4,
        FsType::Btrfs => BTRFS,
        FsType::Vfat => VFAT,
        FsType::Erofs => EROFS,
    }
}

/// The options that mount(8), fstab(5) and systemd use before the filesystem sees them. Their values are not judged.
pub(super) const FOR_ALL: &str = "\
    defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount bind rbind move atime noatime diratime \
    nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime mand nomand silent loud iversion \
    noiversion symfollow nosymfollow auto noauto user nouser users nousers owner noowner group nogroup _netdev nofail \
    fail comment context fscontext defcontext rootcontext seclabel helper uhelper loop offset sizelimit encryption \
    private rprivate shared rshared slave rslave unbindable runbindable";

fn any(_: u32) -> bool {
    true
}

fn is_power_of_two_or_none(number: u32) -> bool {
    number == 0 || number.is_power_of_two() && number < 1 << 31
}

/// The even sizes that fit into an inode of 256 bytes.
fn is_extra_size(number: u32) -> bool {
    number.is_multiple_of(2) && (4..=128).contains(&number)
}

const EXT4: &[Rule] = &[
    rule(
        "bsddf minixdf grpid bsdgroups nogrpid sysvgroups nouid32 debug oldalloc orlov user_xattr acl norecovery noload \
         bh nobh journal_checksum nojournal_checksum journal_async_commit abort noquota quota usrquota grpquota \
         nobarrier i_version delalloc nodelalloc warn_on_error nowarn_on_error mblk_io_submit nomblk_io_submit \
         block_validity noblock_validity noauto_da_alloc dioread_nolock nodioread_nolock dioread_lock discard nodiscard \
         noinit_itable inlinecrypt nombcache no_mbcache prefetch_block_bitmaps no_prefetch_block_bitmaps nocheck \
         reservation noreservation",
        Takes::Nothing,
    ),
    rule("resgid resuid commit min_batch_time max_batch_time stripe max_dir_size_kb", Takes::Number(any)),
    rule("barrier auto_da_alloc init_itable", Takes::MaybeNumber),
    rule("debug_want_extra_isize", Takes::Number(is_extra_size)),
    rule("inode_readahead_blks", Takes::Number(is_power_of_two_or_none)),
    rule("journal_ioprio", Takes::Number(|number| number <= 7)),
    rule("mb_optimize_scan", Takes::Number(|number| number <= 1)),
    rule("errors", Takes::OneOf(&["continue", "panic", "remount-ro"])),
    rule("data", Takes::OneOf(&["journal", "ordered", "writeback"])),
    rule("data_err", Takes::OneOf(&["ignore", "abort"])),
    rule("jqfmt", Takes::OneOf(&["vfsold", "vfsv0", "vfsv1"])),
    rule("check", Takes::OneOf(&["none"])),
    rule("usrjquota grpjquota", Takes::MaybeText),
    // DAX depends on the device. The others are for people who debug a filesystem.
    rule("dax sb fc_debug_force fc_debug_max_replay journal", Takes::Unjudged),
    rule(
        "nouser_xattr noacl",
        Takes::Never("it cannot be switched off any more; the option was removed from the kernel"),
    ),
    rule("journal_dev journal_path", Takes::Never("the journal is in the filesystem")),
    rule("prjquota", Takes::Never("the filesystem of an image has no project quotas")),
    rule("test_dummy_encryption", Takes::Never("the filesystem of an image has no encryption")),
];

const BTRFS: &[Rule] = &[
    rule(
        "acl noacl autodefrag noautodefrag barrier nobarrier clear_cache datacow nodatacow datasum nodatasum degraded \
         nodiscard flushoncommit noflushoncommit rescan_uuid_tree skip_balance nospace_cache ssd nossd ssd_spread \
         nossd_spread treelog notreelog user_subvol_rm_allowed norecovery usebackuproot enospc_debug noenospc_debug",
        Takes::Nothing,
    ),
    rule("commit metadata_ratio", Takes::Number(any)),
    rule("thread_pool", Takes::Number(|number| number > 0)),
    rule("max_inline", Takes::Text),
    rule("discard", Takes::MaybeOneOf(&["sync", "async"])),
    rule("fatal_errors", Takes::OneOf(&["bug", "panic"])),
    rule("space_cache", Takes::MaybeOneOf(&["v1", "v2"])),
    rule(
        "rescue",
        Takes::OneOf(&[
            "usebackuproot",
            "nologreplay",
            "ignorebadroots",
            "ibadroots",
            "ignoredatacsums",
            "idatacsums",
            "ignoremetacsums",
            "imetacsums",
            "ignoresuperflags",
            "isuperflags",
            "all",
        ]),
    ),
    rule("compress compress-force", Takes::Compression),
    rule("subvol subvolid device", Takes::Unjudged),
    rule(
        "inode_cache noinode_cache alloc_start subvolrootid recovery check_int check_int_data check_int_print_mask \
         nologreplay",
        Takes::Never("the option was removed from the kernel"),
    ),
];

const EROFS: &[Rule] = &[
    rule("user_xattr nouser_xattr acl noacl", Takes::Nothing),
    rule("cache_strategy", Takes::OneOf(&["disabled", "readahead", "readaround"])),
    // DAX depends on the device.
    rule("dax directio nodirectio fsoffset", Takes::Unjudged),
    rule("device", Takes::Never("the filesystem of an image is on one device")),
    rule("fsid domain_id", Takes::Never("the filesystem of an image is on a device, not in fscache")),
];

const VFAT: &[Rule] = &[
    rule("usefree nocase quiet showexec debug sys_immutable flush discard dos1xfloppy rodir", Takes::Nothing),
    rule("codepage fat blocksize", Takes::Number(any)),
    // mount(8) makes numbers of names.
    rule("uid gid iocharset cvf_format cvf_options", Takes::Text),
    rule("umask dmask fmask allow_utime", Takes::Octal),
    rule("time_offset", Takes::Minutes),
    rule("check", Takes::OneOf(&["relaxed", "r", "normal", "n", "strict", "s"])),
    rule("tz", Takes::OneOf(&["UTC"])),
    rule("errors", Takes::OneOf(&["continue", "panic", "remount-ro"])),
    rule("nfs", Takes::MaybeOneOf(&["stale_rw", "nostale_ro"])),
    rule("conv", Takes::OneOf(&["binary", "text", "auto", "b", "t", "a"])),
    rule("shortname", Takes::OneOf(&["lower", "win95", "winnt", "mixed"])),
    rule("utf8 uni_xlate nonumtail", Takes::MaybeOneOf(&["0", "1", "no", "yes", "false", "true"])),
];
