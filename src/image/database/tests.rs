use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const A: &str = "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-a";
const B: &str = "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-b";
const HEX: &str = "sha256:0099a2da84cec54d17325bcee0a079669c1b15eb7ead32246514b75b97862f1e";
const SRI: &str = "sha256-AJmi2oTOxU0XMlvO4KB5ZpwbFet+rTIkZRS3W5eGLx4=";

/// The two tables as far as they are read; images of real Nix are in the integration tests.
const TABLES: &str = "
    CREATE TABLE ValidPaths (id integer primary key autoincrement not null, path text unique not null, hash text not null,
        registrationTime integer not null, deriver text, narSize integer);
    CREATE TABLE Refs (referrer integer not null, reference integer not null, primary key (referrer, reference));
    CREATE INDEX IndexReferrer ON Refs(referrer);";

fn insert(id: u32, path: &str, hash: &str, rest: &str) -> String {
    format!("INSERT INTO ValidPaths VALUES ({id}, '{path}', '{hash}', 1700000000, {rest});")
}

/// Two paths, the first of which refers to both.
fn two_paths() -> String {
    let rows = insert(7, B, HEX, &format!("'{A}.drv', 120")) + &insert(9, A, SRI, "NULL, 96");
    format!("{TABLES}{rows} INSERT INTO Refs VALUES (7, 9), (7, 7);")
}

fn made(sql: &str) -> Vec<u8> {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    connection.serialize("main").unwrap().to_vec()
}

fn read_all(files: Files) -> Result<Vec<Registration>, String> {
    read(files, &StoreDir::new("/nix/store").unwrap()).map_err(|error| error.to_string())
}

fn of(database: Vec<u8>) -> Result<Vec<Registration>, String> {
    read_all(Files { database, ..Files::default() })
}

fn error(sql: &str) -> String {
    of(made(sql)).unwrap_err()
}

#[test]
fn paths_are_read_with_their_references() {
    let read = of(made(&two_paths())).unwrap();
    let [b, a] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!((b.path.as_str(), b.nar_size), (B, 120));
    assert_eq!(b.deriver.as_ref().unwrap().as_str(), format!("{A}.drv"));
    assert_eq!(b.references, [b.path.clone(), a.path.clone()]);
    assert_eq!((a.path.as_str(), a.nar_size, &a.deriver), (A, 96, &None));
    assert_eq!(a.references, []);
    assert_eq!((a.nar_hash, a.nar_hash[..4].to_vec()), (b.nar_hash, vec![0x00, 0x99, 0xa2, 0xda]));
    assert_eq!(of(made(TABLES)).unwrap(), []);
}

#[test]
fn the_first_path_tells_the_store() {
    let read = of(made(&two_paths().replace("/nix/store", "/gnu/store"))).unwrap();
    assert_eq!(read[0].path.as_str(), B.replace("/nix", "/gnu"));
}

#[test]
fn a_database_of_something_else_says_so() {
    let no_tables = "is not a database of Nix: it has no tables ValidPaths and Refs";
    assert_eq!(of(Vec::new()).unwrap_err(), no_tables);
    assert_eq!(error("CREATE TABLE t (x)"), no_tables);
    assert_eq!(
        of(b"no database at all".repeat(100)).unwrap_err(),
        "is not an intact SQLite database: file is not a database"
    );
    let few = TABLES.replace("hash text not null", "h text");
    assert_eq!(error(&few), "is not a database of Nix: no such column: hash");
}

#[test]
fn rows_that_nix_would_not_write_are_named() {
    for (row, why) in [
        (insert(3, "/etc/passwd", HEX, "NULL, 1"), "\"/etc/passwd\" is not directly in the store /nix/store"),
        (insert(3, A, "sha512:00", "NULL, 1"), "\"sha512:00\" is not a SHA-256"),
        (insert(3, A, HEX, "NULL, -1"), "-1 is not a size"),
        (insert(3, A, HEX, "NULL, 'many'"), "Invalid column type Text at index: 3, name: narSize"),
        (insert(3, A, HEX, "x'00', 1"), "Invalid column type Blob at index: 4, name: deriver"),
    ] {
        assert_eq!(error(&format!("{TABLES}{row}")), format!("ValidPaths has the row 3: {why}"));
    }
    let dangling = error(&format!("{TABLES}{} INSERT INTO Refs VALUES (3, 4);", insert(3, A, HEX, "NULL, 1")));
    assert!(dangling.contains("Refs leads from row 3 to row 4 of ValidPaths"), "{dangling}");
}

/// Nothing of these is evaluated, whatever it would do.
#[test]
fn a_schema_that_acts_is_refused() {
    let refs = "CREATE TABLE Refs (referrer, reference);";
    let view = format!(
        "{refs} CREATE VIEW ValidPaths AS WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x FROM n) SELECT x FROM n;"
    );
    assert!(error(&view).contains("has no tables ValidPaths and Refs"));
    for more in [
        "CREATE VIEW v AS SELECT 1;",
        "CREATE VIRTUAL TABLE v USING fts5(x);",
        "CREATE TABLE v (x, y AS (hex(zeroblob(x))));",
        "CREATE INDEX v ON Refs (hex(zeroblob(referrer)));",
        "CREATE INDEX v ON Refs (referrer) WHERE referrer > 3;",
    ] {
        let said = error(&format!("{}{more}", two_paths()));
        assert_eq!(said, "is not a database of Nix: v is a view, or evaluates something", "{more}");
    }
    // A trigger acts on changes only, and Nix has one.
    let trigger = "CREATE TRIGGER t BEFORE DELETE ON ValidPaths BEGIN DELETE FROM Refs; END;";
    assert_eq!(of(made(&(two_paths() + trigger))).unwrap().len(), 2);
}

/// The files of a database that is in use: `change` is not finished, and does not fit into the cache.
fn in_use(journal_mode: &str, change: &str) -> (Files, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.sqlite");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!("PRAGMA journal_mode = {journal_mode}; PRAGMA cache_size = 1; {change}"))
        .unwrap();
    let get = |suffix: &str| fs::read(directory.path().join(format!("db.sqlite{suffix}"))).unwrap_or_default();
    let files = Files { database: get(""), journal: get("-journal"), log: get("-wal") };
    drop(connection);
    (files, directory)
}

#[test]
fn a_log_that_waits_counts_as_far_as_it_is_whole() {
    let (files, _directory) = in_use("WAL", &two_paths());
    assert!(!files.log.is_empty() && files.journal.is_empty());
    let read_log =
        |log: &[u8]| read_all(Files { database: files.database.clone(), log: log.to_vec(), ..Files::default() });
    assert_eq!(read_log(&files.log).unwrap().len(), 2);
    assert!(read_log(&[]).unwrap_err().contains("has no tables"));
    let mut damaged = files.log.clone();
    let near_the_end = damaged.len() - 100;
    damaged[near_the_end] ^= 1;
    let references = |read: Vec<Registration>| read.iter().map(|one| one.references.len()).collect::<Vec<_>>();
    assert_eq!(references(read_log(&files.log).unwrap()), [2, 0]);
    assert_eq!(references(read_log(&damaged).unwrap()), [0, 0], "the last transaction is not whole");
}

/// Pages of a transaction that was cut off are in the database already; the journal has what they were.
#[test]
fn a_journal_that_waits_undoes_what_was_not_finished() {
    let many = "WITH RECURSIVE n(x) AS (VALUES(100) UNION ALL SELECT x + 1 FROM n WHERE x < 2000)
        INSERT INTO Refs SELECT x, x FROM n;";
    let (files, _directory) =
        in_use("DELETE", &format!("{} BEGIN; UPDATE ValidPaths SET hash = 'x'; {many}", two_paths()));
    assert!(!files.journal.is_empty() && files.log.is_empty());
    let spilled = of(files.database.clone());
    let Files { database, journal, .. } = files;
    let read = read_all(Files { database, journal, ..Files::default() }).unwrap();
    assert_eq!(read.iter().map(|one| one.references.len()).collect::<Vec<_>>(), [2, 0]);
    assert_ne!(spilled, Ok(read), "the journal made no difference");
}

/// SQLite deletes a file that a journal names so. No image may delete files of the host.
#[test]
fn a_journal_deletes_no_file() {
    let (files, _directory) = in_use("DELETE", &format!("{} BEGIN; UPDATE ValidPaths SET hash = 'x';
        CREATE TABLE t AS WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n WHERE x < 5000) SELECT x FROM n;", two_paths()));
    let victim = tempfile::NamedTempFile::new().unwrap();
    let name = victim.path().to_str().unwrap().as_bytes();
    let sum: u32 = name.iter().map(|&byte| u32::from(byte)).sum();
    let mut journal = files.journal;
    assert!(!journal.is_empty());
    journal.extend(u32::MAX.to_be_bytes().iter().chain(name));
    for part in [u32::try_from(name.len()).unwrap().to_be_bytes(), sum.to_be_bytes()] {
        journal.extend(part);
    }
    journal.extend(SUPER_JOURNAL);
    let said = read_all(Files { database: files.database, journal, ..Files::default() }).unwrap_err();
    assert!(said.contains("transaction of several databases"), "{said}");
    assert!(victim.path().exists());
}

#[test]
fn no_copy_stays_behind() {
    let (files, _directory) = in_use("WAL", &two_paths());
    let opened = Opened::new(files).unwrap();
    let copy = opened._copy.as_ref().unwrap().path().to_owned();
    assert!(copy.join("db.sqlite").exists());
    drop(opened);
    assert!(!copy.exists());
}

/// A page of the schema's tree whose children are all the same page, and so on for nine levels: a walk of 70^9 rows.
#[test]
fn a_tree_that_never_ends_is_left() {
    let started = Instant::now();
    let said = of(endless()).unwrap_err();
    assert!(said.contains("more steps than its size allows") || said.contains("malformed"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// See [`a_tree_that_never_ends_is_left`].
fn endless() -> Vec<u8> {
    const PAGE: usize = 512;
    let small = "PRAGMA page_size = 512; CREATE TABLE t (x UNIQUE);";
    let mut database = made(small);
    assert_eq!(database.len(), 3 * PAGE, "schema, table and index");
    let leaf = database[100..PAGE].to_vec();
    let interior = |at: usize, child: u32| {
        let mut page = vec![0; PAGE - at];
        let count = (PAGE - at - 12) / 7;
        page[..12].copy_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        page[3..5].copy_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
        let start = PAGE - count * 5;
        page[5..7].copy_from_slice(&u16::try_from(start).unwrap().to_be_bytes());
        page[8..12].copy_from_slice(&child.to_be_bytes());
        for i in 0..count {
            let cell = start + i * 5;
            page[12 + 2 * i..14 + 2 * i].copy_from_slice(&u16::try_from(cell).unwrap().to_be_bytes());
            page[cell - at..cell - at + 4].copy_from_slice(&child.to_be_bytes());
            page[cell - at + 4] = 1;
        }
        page
    };
    let pages = 13u32;
    database.resize(PAGE * usize::try_from(pages).unwrap(), 0);
    // The leaf moves to the last page; its offsets count from the page's start in either place.
    let last = PAGE * 12;
    database[last..last + 8].copy_from_slice(&leaf[..8]);
    let count = usize::from(u16::from_be_bytes([leaf[3], leaf[4]]));
    database[last + 8..last + 8 + 2 * count].copy_from_slice(&leaf[8..8 + 2 * count]);
    database[last + 200..last + PAGE].copy_from_slice(&leaf[100..]);
    database[100..PAGE].copy_from_slice(&interior(100, 4));
    for page in 4..pages {
        let start = PAGE * usize::try_from(page - 1).unwrap();
        database[start..start + PAGE].copy_from_slice(&interior(0, page + 1));
    }
    database[28..32].copy_from_slice(&pages.to_be_bytes());
    database
}

static IN_USE: LazyLock<Files> = LazyLock::new(|| in_use("WAL", &two_paths()).0);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_change_of_bytes_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut database = made(&two_paths());
        for (at, byte) in changes {
            let len = database.len();
            database[at.index(len)] = byte;
        }
        let _ = of(database);
    }

    #[test]
    fn no_change_of_a_log_panics(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let (database, mut log) = (IN_USE.database.clone(), IN_USE.log.clone());
        let len = log.len();
        log[at.index(len)] = byte;
        log.truncate(cut.index(len) + 1);
        let _ = read_all(Files { database, log, ..Files::default() });
    }
}
