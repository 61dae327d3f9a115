//! Nix's own database of valid paths, `db.sqlite`, in an image. SQLite reads it and trusts nothing in it.
//!
//! Usually it is read from memory. On the disk of a machine that runs or lost its power, there may be a journal or a
//! write-ahead log beside it. Then SQLite first brings a private copy up to date. The image is never written.

use std::fs;
use std::io;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use tempfile::TempDir;
use thiserror::Error;

use crate::read::escape;
use crate::store::path::check_base_name;
use crate::store::registration::sha256;
use crate::store::{Registration, StoreDir, StorePath, StorePathError};

/// Where a SQLite file says that it has a write-ahead log: the format's versions for writing and for reading.
const VERSIONS: std::ops::Range<usize> = 18..20;
/// The versions of a file without a write-ahead log.
const WITHOUT_LOG: [u8; 2] = [1, 1];
/// The end of a journal that belongs to a transaction of several databases.
const SUPER_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// No row of Nix is longer.
const MAX_ROW: i32 = 1 << 20;
/// Instructions of SQLite's machine between two looks at how many there were.
const STEPS: i32 = 10_000;
/// Objects that evaluate expressions, or that are no tables. Nix makes none of them.
const UNUSUAL: &str = "
    SELECT name FROM sqlite_schema WHERE type = 'view' OR (type = 'table' AND rootpage = 0)
    UNION ALL SELECT s.name FROM sqlite_schema s, pragma_table_xinfo(s.name) c WHERE s.type = 'table' AND c.hidden <> 0
    UNION ALL SELECT s.name FROM sqlite_schema s, pragma_index_xinfo(s.name) c WHERE s.type = 'index' AND c.cid = -2
    UNION ALL SELECT i.name FROM sqlite_schema s, pragma_index_list(s.name) i WHERE s.type = 'table' AND i.partial
    LIMIT 1";

/// The files of a database. Those that are not there are empty.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// `db.sqlite`.
    pub database: Vec<u8>,
    /// `db.sqlite-journal`: what undoes a transaction that was not finished.
    pub journal: Vec<u8>,
    /// `db.sqlite-wal`: transactions that are not in the database yet.
    pub log: Vec<u8>,
}

/// Why a database cannot be read. All text is escaped.
#[derive(Debug, Error)]
pub(super) enum DatabaseError {
    /// SQLite cannot read it.
    #[error("is not an intact SQLite database: {0}")]
    Corrupt(String),
    /// It is a database, but of something else.
    #[error("is not a database of Nix: {0}")]
    Foreign(String),
    /// A row that Nix would not write.
    #[error("ValidPaths has the row {id}: {why}")]
    Row {
        /// The row.
        id: i64,
        /// What is wrong with it.
        why: String,
    },
    /// There is no room for a copy.
    #[error("cannot be brought up to date on a copy in {directory}: {source}; set TMPDIR to another directory")]
    Copy {
        /// Where.
        directory: String,
        /// Why.
        source: io::Error,
    },
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{SqlInputError, SqliteFailure};
        let text = match &error {
            // A table without the column that is asked for.
            SqlInputError { msg, .. } => return Self::Foreign(escape::text(msg)),
            SqliteFailure(cause, _) if cause.code == ErrorCode::OperationInterrupted => {
                "it needs more steps than its size allows".to_owned()
            }
            other => other.to_string(),
        };
        Self::Corrupt(escape::text(&text))
    }
}

impl Files {
    fn len(&self) -> u64 {
        [&self.database, &self.journal, &self.log].iter().fold(0, |sum, file| sum.saturating_add(file.len() as u64))
    }
}

/// What a database says of each valid path, sorted by its rows. `store_dir` is the store directory if no path shows it.
///
/// # Errors
/// If it is damaged, or no database of Nix.
pub(super) fn read(files: Files, store_dir: &StoreDir) -> Result<Vec<Registration>, DatabaseError> {
    let size = files.len();
    let opened = Opened::new(files)?;
    let connection = &opened.connection;
    confine(connection, size)?;
    check(connection, size)?;
    let mut rows = valid_paths(connection, store_dir)?;
    add_references(connection, &mut rows)?;
    Ok(rows.into_iter().map(|(_, registration)| registration).collect())
}

/// An open database; the connection is closed before its files go.
struct Opened {
    connection: Connection,
    _copy: Option<TempDir>,
}

impl Opened {
    fn new(files: Files) -> Result<Self, DatabaseError> {
        if files.journal.is_empty() && files.log.is_empty() {
            return Ok(Self { connection: in_memory(files.database)?, _copy: None });
        }
        if files.journal.ends_with(&SUPER_JOURNAL) {
            // SQLite would delete the file that it names.
            return Err(DatabaseError::Corrupt("its journal is of a transaction of several databases".to_owned()));
        }
        let failed = |source| DatabaseError::Copy { directory: escape::path(&std::env::temp_dir()), source };
        let copy = copy(&files).map_err(failed)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(copy.path().join("db.sqlite"), flags)?;
        // The log is read and never written back: its last page may be at any place that it likes.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(Self { connection, _copy: Some(copy) })
    }
}

fn in_memory(mut database: Vec<u8>) -> Result<Connection, DatabaseError> {
    if let Some(versions) = database.get_mut(VERSIONS) {
        // Memory has no room for a log, and there is none.
        if versions == [2, 2] {
            versions.copy_from_slice(&WITHOUT_LOG);
        }
    }
    let mut connection = Connection::open_in_memory()?;
    // SQLite takes a file without a byte for an empty database, but no memory without one.
    if !database.is_empty() {
        connection.deserialize_read_exact("main", database.as_slice(), database.len(), true)?;
    }
    Ok(connection)
}

/// The files in a directory that nobody else can look into.
fn copy(files: &Files) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("sane-image-").tempdir()?;
    for (name, contents) in
        [("db.sqlite", &files.database), ("db.sqlite-journal", &files.journal), ("db.sqlite-wal", &files.log)]
    {
        if !contents.is_empty() {
            fs::write(directory.path().join(name), contents)?;
        }
    }
    Ok(directory)
}

/// Takes from SQLite whatever a hostile database could use, before a byte of it is read.
fn confine(connection: &Connection, size: u64) -> Result<(), DatabaseError> {
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_ROW),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_ROW),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Ten instructions a byte are several times what an intact database takes, and bound one that goes in circles.
    let mut left = size / 1000 + 1000;
    let is_over = move || {
        left = left.saturating_sub(1);
        left == 0
    };
    connection.progress_handler(STEPS, Some(is_over))?;
    Ok(connection.execute_batch(
        "PRAGMA cell_size_check = ON; PRAGMA ignore_check_constraints = ON; PRAGMA temp_store = MEMORY;
         PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = OFF;",
    )?)
}

/// Checks that all of it is intact, and that what will be read are tables.
fn check(connection: &Connection, size: u64) -> Result<(), DatabaseError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let claimed = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
    if u64::try_from(claimed).is_ok_and(|claimed| claimed > size) {
        return Err(DatabaseError::Corrupt(format!("it should have {claimed} bytes, but there are {size}")));
    }
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('ValidPaths', 'Refs')";
    if number(tables)? != 2 {
        return Err(DatabaseError::Foreign("it has no tables ValidPaths and Refs".to_owned()));
    }
    let mut unusual = connection.prepare(UNUSUAL)?;
    if let Some(row) = unusual.query([])?.next()? {
        let name = escape::text(&row.get::<_, String>(0)?);
        return Err(DatabaseError::Foreign(format!("{name} is a view, or evaluates something")));
    }
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match said.trim_start_matches("*** in database main ***").trim() {
        "ok" => Ok(()),
        fault => Err(DatabaseError::Corrupt(escape::text(fault))),
    }
}

/// The rows of ValidPaths by their number.
fn valid_paths(connection: &Connection, store_dir: &StoreDir) -> Result<Vec<(i64, Registration)>, DatabaseError> {
    let mut statement = connection.prepare("SELECT id, path, hash, narSize, deriver FROM ValidPaths ORDER BY id")?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    let mut told = None;
    while let Some(row) = found.next()? {
        let id = row.get(0)?;
        let error = |why| DatabaseError::Row { id, why };
        if told.is_none() {
            told = row.get::<_, String>(1).ok().and_then(|path| store_dir_of(&path));
        }
        rows.push((id, registration(row, told.as_ref().unwrap_or(store_dir)).map_err(error)?));
    }
    Ok(rows)
}

fn store_dir_of(path: &str) -> Option<StoreDir> {
    let (directory, base_name) = path.rsplit_once('/')?;
    StoreDir::new(directory).ok().filter(|_| check_base_name(base_name).is_ok())
}

fn registration(row: &Row<'_>, store_dir: &StoreDir) -> Result<Registration, String> {
    let sqlite = |error: rusqlite::Error| escape::text(&error.to_string());
    let in_store = |path: String| {
        StorePath::from_absolute_path(&path, store_dir)
            .map_err(|error: StorePathError| escape::text(&error.to_string()))
    };
    let path = in_store(row.get(1).map_err(sqlite)?)?;
    let hash: String = row.get(2).map_err(sqlite)?;
    let nar_hash = sha256(&hash).ok_or_else(|| format!("{hash:?} is not a SHA-256"))?;
    // Nix has no size of what was registered by its very first versions.
    let nar_size = row.get::<_, Option<i64>>(3).map_err(sqlite)?.unwrap_or(0);
    let nar_size = u64::try_from(nar_size).map_err(|_| format!("{nar_size} is not a size"))?;
    let deriver = row.get::<_, Option<String>>(4).map_err(sqlite)?.filter(|deriver| !deriver.is_empty());
    let deriver = deriver.map(in_store).transpose()?;
    Ok(Registration { path, nar_hash, nar_size, deriver, references: Vec::new() })
}

fn add_references(connection: &Connection, rows: &mut [(i64, Registration)]) -> Result<(), DatabaseError> {
    let mut statement = connection.prepare("SELECT referrer, reference FROM Refs ORDER BY referrer, reference")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let numbers: [i64; 2] = [row.get(0)?, row.get(1)?];
        let [referrer, reference] = numbers.map(|number| rows.binary_search_by_key(&number, |(id, _)| *id).ok());
        let path = reference.and_then(|at| rows.get(at)).map(|(_, registration)| registration.path.clone());
        let referrer = referrer.and_then(|at| rows.get_mut(at));
        let (Some(path), Some((_, referrer))) = (path, referrer) else {
            let [from, to] = numbers;
            let why = format!("Refs leads from row {from} to row {to} of ValidPaths, which are not both there");
            return Err(DatabaseError::Corrupt(why));
        };
        referrer.references.push(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
