//! How RocksDB is set up. Measured with 256 KiB values on two cores, a consumer 256 MiB behind, the log synced each 100 ms:
//!
//! | | MB/s | CPU-s/GB | peak resident | write amplification |
//! |---|---|---|---|---|
//! | blob files, 8 MiB memtables | 256 | 3.8 | 49 MB | 2.0 |
//! | blob files, 16 MiB memtables | 256 | 3.9 | 87 MB | 2.0 |
//! | values in the tree, 16 MiB | 193 | 4.9 | 103 MB | 3.8 |
//! | values in the tree, 16 MiB, deleting whole files | 151 | 4.3 | 88 MB | 3.6 |
//!
//! So columns go to blob files: the tree then holds only small records and references, its compaction costs nothing, and
//! compacting a range is enough to give the room of released chunks back. Whole files are never deleted by range, so that a
//! deleted key cannot come back (the outbox would not mind: its stored base decides).

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options, ReadOptions, WriteOptions,
};

/// Values from here on lie in blob files.
const BLOB_BYTES_MIN: u64 = 4 * 1024;
const MEMTABLE_BYTES: usize = 8 * 1024 * 1024;
const MEMTABLES: i32 = 3;
const CACHE_BYTES: usize = 8 * 1024 * 1024;
const OPEN_FILES_MAX: i32 = 128;
const LOG_BYTES_MAX: usize = 1024 * 1024;
const LOG_FILES_MAX: usize = 2;

pub(super) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    memory(&mut options);
    columns(&mut options);
    damage(&mut options);
    // Its own log must not fill the disk.
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(LOG_BYTES_MAX);
    options.set_keep_log_file_num(LOG_FILES_MAX);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn memory(options: &mut Options) {
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(MEMTABLES);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    // Counted in the cache: a backlog of a million chunks costs no more memory than an empty outbox.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
}

fn columns(options: &mut Options) {
    // Payloads arrive encoded.
    options.set_compression_type(DBCompressionType::None);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(BLOB_BYTES_MIN);
    // Columns go in the order in which they came: a blob file becomes garbage whole. So compaction never reads blobs, and a
    // flipped bit in one never stops it.
    options.set_enable_blob_gc(false);
    options.set_bytes_per_sync(1024 * 1024);
    options.set_wal_bytes_per_sync(1024 * 1024);
}

/// What is damaged becomes a gap, and nothing else stops.
fn damage(options: &mut Options) {
    // A torn tail, or a flipped bit in the middle of the log, costs the batches that it hits; every record is sealed, and
    // seqs are continuous, so that what is missing is noticed and named.
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    // A bad block fails the compaction that meets it; it must not make the whole store read-only, nor, as files pile up
    // behind it, stop the writes.
    options.set_paranoid_checks(false);
    options.set_level_zero_slowdown_writes_trigger(200);
    options.set_level_zero_stop_writes_trigger(100_000);
}

pub(super) fn write(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}

/// For scans within bounds: what was deleted beyond them is not walked over.
pub(super) fn scan(from: &[u8], end: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(end);
    options
}
