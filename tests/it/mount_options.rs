//! Mount options: a spec is accepted without a word where the kernel mounts its filesystem, and nowhere else.

use std::fs;

use sane_image::spec;
use serde_json::{Value, json};

use crate::support::closure::ClosureBuilder;
use crate::support::image::Built;
use crate::support::mount::is_mounted_with;
use crate::support::oracle::whole;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{run, slice, tool};

/// The oldest kernel that takes what is accepted here.
const LINUX: (u32, u32) = (6, 18);

/// All options of ext4, with good and bad values, those of other filesystems, and some that nobody has.
const EXT4: &str = "
bsddf minixdf grpid bsdgroups nogrpid sysvgroups resgid=0 resuid=0 errors=continue errors=remount-ro errors=foo
nouid32 oldalloc orlov user_xattr nouser_xattr acl noacl norecovery noload ro,noload ro,norecovery bh nobh commit=5
commit=0 min_batch_time=0 max_batch_time=15000 journal_dev=8 journal_checksum nojournal_checksum
journal_async_commit data=journal,journal_async_commit data=ordered,journal_async_commit
data=writeback,journal_async_commit data=journal data=ordered data=writeback data=foo data_err=ignore data_err=abort
data=journal,data_err=abort usrjquota= grpjquota= usrjquota=aquota.user usrjquota=aquota.user,jqfmt=vfsv0
usrjquota=aquota.user,jqfmt=vfsv1 grpjquota=aquota.group,jqfmt=vfsv1 jqfmt=vfsold jqfmt=vfsv0 jqfmt=vfsv1 quota
noquota usrquota grpquota prjquota usrquota,grpquota barrier barrier=0 barrier=1 nobarrier i_version noi_version
iversion stripe=0 stripe=16 stripe=17 delalloc nodelalloc data=journal,delalloc warn_on_error nowarn_on_error
debug_want_extra_isize=32 debug_want_extra_isize=33 mblk_io_submit nomblk_io_submit block_validity noblock_validity
inode_readahead_blks=32 inode_readahead_blks=33 journal_ioprio=3 journal_ioprio=7 journal_ioprio=8 auto_da_alloc
auto_da_alloc=0 noauto_da_alloc dioread_nolock nodioread_nolock dioread_lock data=journal,dioread_nolock discard
nodiscard init_itable init_itable=10 noinit_itable max_dir_size_kb=1024 test_dummy_encryption nombcache no_mbcache
prefetch_block_bitmaps no_prefetch_block_bitmaps mb_optimize_scan=0 mb_optimize_scan=1 mb_optimize_scan=2
mb_optimize_scan= check check=none nocheck reservation noreservation emergency_ro subvol=@ compress=zstd space_cache
ssd autodefrag lazytime nolazytime casefold noatime relatime strictatime nodiratime sync dirsync nosymfollow
nodev,nosuid,noexec umask=0077 uid=0 size=1G stripe=3,delalloc data=journal,auto_da_alloc lock quota=x grpid=1
commit commit=x
";

/// The same for btrfs, whose subvolumes have tests of their own.
const BTRFS: &str = "
acl noacl autodefrag noautodefrag barrier nobarrier clear_cache noclear_cache commit=30 commit=0 commit=301 commit=x
compress nocompress compress=zstd compress=zstd:0 compress=zstd:15 compress=zstd:16 compress=zstd:-1
compress=zstd:-5 compress=zstd:-15 compress=zstd:-16 compress=zstd:x compress=zstd:3x compress=zstd:
compress=zstd:+3 compress=zlib compress=zlib:0 compress=zlib:1 compress=zlib:9 compress=zlib:10 compress=zlib:-1
compress=lzo compress=lzo:0 compress=lzo:1 compress=lz4 compress=no compress=none compress=no:1 compress=none:1
compress=nope compress=zstdx compress=zlibx compress=lzox compress= compress-force compress-force=zstd:3
compress-force=no datacow nodatacow datasum nodatasum nodatacow,compress=zstd compress=zstd,nodatacow
compress=zstd,nodatasum nodatasum,compress=zstd degraded nodegraded discard discard=sync discard=async discard=foo
nodiscard fatal_errors=bug fatal_errors=foo flushoncommit noflushoncommit inode_cache noinode_cache max_inline=0
max_inline=2048 max_inline=4k max_inline=100000 metadata_ratio=4 rescan_uuid_tree norescan_uuid_tree skip_balance
space_cache space_cache=v1 space_cache=v2 space_cache=v3 nospace_cache space_cache=no nospace_cache,clear_cache
clear_cache,space_cache=v1 clear_cache,space_cache=v2 space_cache=v1,clear_cache ssd nossd ssd_spread nossd_spread
thread_pool=4 thread_pool=0 treelog notreelog user_subvol_rm_allowed nouser_subvol_rm_allowed norecovery
ro,norecovery nologreplay ro,nologreplay usebackuproot nousebackuproot recovery rescue=usebackuproot
rescue=nologreplay ro,rescue=nologreplay rescue=ignorebadroots ro,rescue=ignorebadroots rescue=ibadroots
rescue=ignoredatacsums ro,rescue=idatacsums rescue=ignoremetacsums ro,rescue=ignoremetacsums ro,rescue=imetacsums
rescue=ignoresuperflags ro,rescue=isuperflags rescue=all ro,rescue=all ro,rescue=usebackuproot:nologreplay
rescue=foo alloc_start=1M check_int check_int_data check_int_print_mask=1 fragment=data fragment=all ref_verify
ref_tracker data=ordered commit=5,noatime lazytime relatime sync i_version iversion user_xattr errors=remount-ro
discard=async,nodiscard umask=0077 noload quota usrquota space_cache=v1,space_cache=v2 space_cache=v2,space_cache=v1
space_cache=v2,nospace_cache compress=zlib:x compress=zstd:0x10
";

/// The same for EROFS. Not `fsid` and `domain_id`: a kernel without fscache ignores them.
const EROFS: &str = "
user_xattr nouser_xattr acl noacl cache_strategy=disabled cache_strategy=readahead cache_strategy=readaround
cache_strategy=foo cache_strategy= cache_strategy ro rw noatime lazytime nodev,nosuid,noexec device=/dev/null
data=ordered compress=zstd umask=0077 errors=remount-ro discard commit=5 subvol=@ uid=0 size=1G nonsense
user_xattr=1 noacl=x
";

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Whether a spec with these mount options of `/` is taken without a warning.
fn is_accepted(spec: &Value, fs_type: &str, options: &str) -> bool {
    let mut spec = spec.clone();
    spec["fileSystems"]["/"]["fsType"] = json!(fs_type);
    spec["fileSystems"]["/"]["options"] = json!([options]);
    spec::parse(&spec.to_string()).is_ok_and(|spec| spec.warnings.is_empty())
}

fn compare(fs_type: &'static str, list: &str) {
    if kernel() < LINUX {
        skip(Lack::other("the kernel is older than the options"));
        return;
    }
    let closure = ClosureBuilder::new().spec(move |spec| spec["fileSystems"]["/"]["fsType"] = json!(fs_type)).write();
    let built = Built::new(&closure, &[]);
    let image = slice(&built.image, built.nix());
    let copy = built.scratch().join("copy");
    let mut differences = Vec::new();
    for options in list.split_whitespace() {
        run(tool("cp").arg("--sparse=always").arg(image.path()).arg(&copy));
        let Some(is_mounted) = is_mounted_with(&copy, whole(&copy), fs_type, options) else { return };
        if is_accepted(&closure.spec, fs_type, options) != is_mounted {
            differences.push(format!("{options}: {}", if is_mounted { "mounted" } else { "not mounted" }));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn ext4_is_mounted_as_accepted() {
    compare("ext4", EXT4);
}

#[test]
fn erofs_is_mounted_as_accepted() {
    compare("erofs", EROFS);
    let closure = ClosureBuilder::new().write();
    for options in ["fsid=x", "domain_id=x"] {
        assert!(
            !is_accepted(&closure.spec, "erofs", options),
            "{options}: a kernel with fscache looks for no device then"
        );
    }
}

#[test]
fn btrfs_is_mounted_as_accepted() {
    compare("btrfs", BTRFS);
}
