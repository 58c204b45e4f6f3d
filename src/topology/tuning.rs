//! Settings of Postgres from the size of a node: memory, CPU, disk.
//!
//! The figures follow Pigsty's four profiles, so that a cluster moved from there keeps its settings. Names and
//! accepted values depend on the major version; [`Tuning::compute`] gates them.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use crate::text::quote::shell;
use crate::text::suggest::nearest;

/// What the cluster is for; the name of Pigsty's `pg_conf` without `.yml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Short transactions, many clients.
    Oltp,
    /// Few long queries over much data.
    Olap,
    /// As OLTP, but no commit may be lost: synchronous, with a watchdog and more logging.
    Crit,
    /// A small node.
    Tiny,
}

/// What [`Tuning::compute`] needs to know.
#[derive(Clone, Debug)]
pub struct TuningInput {
    pub profile: Profile,
    /// Major version, 13 to 18.
    pub pg_version: u32,
    /// Physical memory, MiB.
    pub memory_mb: u64,
    pub cpu: u64,
    /// Size of the filesystem that holds the data, bytes.
    pub disk_bytes: u64,
    /// `pg_max_conn`; `None`, or below 20, means by profile.
    pub max_conn: Option<u32>,
    /// Share of the memory for `shared_buffers`, above 0 and below 1.
    pub shared_buffer_ratio: f64,
    /// `pg_storage_type` is SSD.
    pub storage_ssd: bool,
    /// `pg_libs`: a comma-separated list, as `shared_preload_libraries`.
    pub libs: String,
    /// Clients come through `PgBouncer` by default (`pg_default_service_dest`), so fewer connections are enough.
    pub pgbouncer_is_default_dest: bool,
    /// `pg_pwd_enc`.
    pub pwd_enc: String,
    /// `pg_io_method`, for version 18 on.
    pub io_method: String,
    /// `pg_log_dir`.
    pub log_dir: String,
    /// Database of `pg_cron` (`pg_primary_db`).
    pub primary_db: String,
    /// Whether WAL is archived with pgBackRest.
    pub backrest_enabled: bool,
    /// pgBackRest's name of the cluster.
    pub stanza: String,
    /// `pg_parameters`: they win over everything computed here.
    pub parameters: IndexMap<String, Value>,
}

/// Why no settings can be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TuningError {
    #[error(
        "`pg_conf` `{name}` is not a tuning profile{hint}; there are oltp.yml, olap.yml, crit.yml, tiny.yml"
    )]
    Profile { name: String, hint: String },
    #[error("PostgreSQL {0} is not supported; 13 to 18 are")]
    Version(u32),
    #[error("`pg_shared_buffer_ratio` {0} is not between 0 and 1")]
    Ratio(f64),
    #[error("the node reports no {0}")]
    Empty(&'static str),
    #[error("`pg_max_conn` {0} is more than the 262143 that PostgreSQL takes")]
    Connections(u32),
    #[error("`pg_parameters`: `{0}` is not the name of a setting")]
    Name(String),
    #[error("`pg_parameters`: `{0}` needs a string, number or boolean")]
    Value(String),
}

impl Profile {
    /// Reads `pg_conf`: `oltp.yml` or `oltp`.
    pub fn parse(pg_conf: &str) -> Result<Self, TuningError> {
        let word = pg_conf.strip_suffix(".yml").unwrap_or(pg_conf);
        match word {
            "oltp" => Ok(Self::Oltp),
            "olap" => Ok(Self::Olap),
            "crit" => Ok(Self::Crit),
            "tiny" => Ok(Self::Tiny),
            _ => Err(TuningError::Profile {
                name: pg_conf.to_owned(),
                hint: nearest(word, ["oltp", "olap", "crit", "tiny"])
                    .map(|near| format!(", did you mean `{near}.yml`?"))
                    .unwrap_or_default(),
            }),
        }
    }
}

/// What a profile means for Patroni rather than for Postgres.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// A commit waits for a synchronous replica.
    pub synchronous_mode: bool,
    /// It waits even when there is none.
    pub synchronous_mode_strict: bool,
    /// off, automatic or required.
    pub watchdog_mode: String,
    pub data_checksums: bool,
}

impl Policy {
    /// `rpo` is `pg_rpo`, bytes; 0 asks for synchronous replication. `crit` insists on it, on checksums and
    /// on a watchdog where the node has one.
    pub fn new(profile: Profile, rpo: u64, watchdog_mode: &str, checksum: bool) -> Self {
        let crit = profile == Profile::Crit;
        Self {
            synchronous_mode: crit || rpo == 0,
            synchronous_mode_strict: crit,
            watchdog_mode: if crit && watchdog_mode == "off" { "automatic" } else { watchdog_mode }
                .to_owned(),
            data_checksums: crit || checksum,
        }
    }
}

/// Settings of Postgres.
pub struct Tuning;

impl Tuning {
    /// Name → value, in the order of the manual's chapters. Values carry their units; booleans are `on` and `off`.
    ///
    /// # Errors
    /// When the version, the ratio or the facts are out of range, or `pg_parameters` holds what is no setting.
    pub fn compute(input: &TuningInput) -> Result<IndexMap<String, Value>, TuningError> {
        let sizes = Sizes::of(input)?;
        let mut settings = Settings::default();
        connections(&mut settings, input, &sizes);
        memory(&mut settings, input, &sizes);
        workers(&mut settings, input, &sizes);
        wal(&mut settings, input, &sizes);
        replication(&mut settings, input);
        planner(&mut settings, input);
        logging(&mut settings, input);
        vacuum(&mut settings, input);
        libraries(&mut settings, input, &sizes);
        let mut map = settings.0;
        for (name, value) in &input.parameters {
            if !is_setting_name(name) {
                return Err(TuningError::Name(name.clone()));
            }
            let value = match value {
                Value::Bool(on) => Value::from(if *on { "on" } else { "off" }),
                Value::String(_) | Value::Number(_) => value.clone(),
                _ => return Err(TuningError::Value(name.clone())),
            };
            map.insert(name.clone(), value);
        }
        Ok(map)
    }
}

/// A name of the server's own, or `library.name` (manual, 19.1.1 and 19.16).
fn is_setting_name(name: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
    };
    !name.is_empty() && name.split('.').count() <= 2 && name.split('.').all(word)
}

#[derive(Default)]
struct Settings(IndexMap<String, Value>);

impl Settings {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn mb(&mut self, name: &str, megabytes: u64) {
        self.set(name, format!("{megabytes}MB"));
    }

    fn gb(&mut self, name: &str, gigabytes: u64) {
        self.set(name, format!("{gigabytes}GB"));
    }
}

/// The figures that others are made of.
struct Sizes {
    connections: u64,
    /// MiB.
    shared_buffers: u64,
    /// Gigabytes: one twentieth of the disk, 1 to 100.
    disk_share: u64,
    /// Background workers before the eight that replication may take.
    workers: u64,
    has_citus: bool,
    has_many_locks: bool,
}

impl Sizes {
    fn of(input: &TuningInput) -> Result<Self, TuningError> {
        if !(13..=18).contains(&input.pg_version) {
            return Err(TuningError::Version(input.pg_version));
        }
        if !(input.shared_buffer_ratio > 0.0 && input.shared_buffer_ratio < 1.0) {
            return Err(TuningError::Ratio(input.shared_buffer_ratio));
        }
        for (amount, what) in
            [(input.memory_mb, "memory"), (input.cpu, "CPU"), (input.disk_bytes, "size of the data disk")]
        {
            if amount == 0 {
                return Err(TuningError::Empty(what));
            }
        }
        let by_profile = match input.profile {
            Profile::Oltp | Profile::Crit if input.pgbouncer_is_default_dest => 500,
            Profile::Oltp | Profile::Crit => 1000,
            Profile::Olap => 500,
            Profile::Tiny => 250,
        };
        let connections = match input.max_conn {
            Some(given) if given > 262_143 => return Err(TuningError::Connections(given)),
            Some(given) if given >= 20 => u64::from(given),
            _ => by_profile,
        };
        let has_citus = has_library(&input.libs, "citus");
        Ok(Self {
            connections,
            shared_buffers: share(input.memory_mb, input.shared_buffer_ratio),
            disk_share: input.disk_bytes.div_ceil(20 << 30).clamp(1, 100),
            workers: match input.profile {
                Profile::Oltp | Profile::Crit => (input.cpu + 8).max(16),
                Profile::Olap => (input.cpu + 12).max(20),
                Profile::Tiny => (input.cpu + 4).max(12),
            },
            has_citus,
            has_many_locks: has_citus || has_library(&input.libs, "timescaledb"),
        })
    }
}

/// Megabytes of `memory_mb`, rounded up. The ratio is taken in millionths, so that 0.25 of 8192 is 2048 and
/// not, by a rounding error, 2049.
fn share(memory_mb: u64, ratio: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie between 0 and 1"
    )]
    let millionths = (ratio * 1e6).round() as u64;
    (memory_mb * millionths).div_ceil(1_000_000).max(1)
}

/// Percent of `n`, rounded up.
fn percent_up(n: u64, percent: u64) -> u64 {
    (n * percent).div_ceil(100)
}

/// Percent of `n`, rounded down.
fn percent_down(n: u64, percent: u64) -> u64 {
    n * percent / 100
}

fn has_library(libs: &str, name: &str) -> bool {
    libs.split(',').any(|lib| lib.trim().trim_matches(['"', '\'']) == name)
}

fn connections(settings: &mut Settings, input: &TuningInput, sizes: &Sizes) {
    let locks = match (input.profile, sizes.has_many_locks) {
        (Profile::Olap, true) => 4,
        (Profile::Olap, false) | (_, true) => 2,
        (_, false) => 1,
    };
    settings.set("max_connections", sizes.connections);
    settings.set("superuser_reserved_connections", 10);
    settings.set("max_locks_per_transaction", sizes.connections * locks);
    settings.set("max_prepared_transactions", if sizes.has_citus { sizes.connections } else { 0 });
    settings.set("password_encryption", input.pwd_enc.as_str());
    settings.set("deadlock_timeout", "50ms");
    settings.set(
        "idle_in_transaction_session_timeout",
        match input.profile {
            Profile::Oltp | Profile::Tiny => "10min",
            Profile::Olap => "0",
            Profile::Crit => "1min",
        },
    );
}

fn memory(settings: &mut Settings, input: &TuningInput, sizes: &Sizes) {
    let buffers = sizes.shared_buffers;
    let (least, most) = match input.profile {
        Profile::Oltp | Profile::Crit => (64, 1024),
        Profile::Olap => (64, 8192),
        Profile::Tiny => (16, 256),
    };
    let maintenance = if input.profile == Profile::Olap { 50 } else { 25 };
    settings.mb("shared_buffers", buffers);
    settings.set("huge_pages", "try");
    settings.mb("work_mem", (buffers / sizes.connections).clamp(least, most));
    settings.set("hash_mem_multiplier", 8);
    settings.mb("maintenance_work_mem", percent_up(buffers, maintenance));
    settings.mb("effective_cache_size", (input.memory_mb - buffers.min(input.memory_mb)).max(1));
    // One query must not fill the disk: the limit is for each process.
    let olap = input.profile == Profile::Olap;
    settings.gb(
        "temp_file_limit",
        if olap { (4 * sizes.disk_share).min(2000) } else { sizes.disk_share.min(200) },
    );
}

fn workers(settings: &mut Settings, input: &TuningInput, sizes: &Sizes) {
    let cpu = input.cpu;
    let (parallel, gather, maintenance) = match input.profile {
        Profile::Oltp => (percent_up(cpu, 50).max(2), (cpu / 5).clamp(2, 8), percent_up(cpu, 33).max(2)),
        Profile::Olap => (percent_up(cpu, 80).max(2), (cpu / 2).max(2), percent_up(cpu, 33).max(2)),
        Profile::Crit => (percent_up(cpu, 50).max(2), 0, percent_up(cpu, 33).max(2)),
        Profile::Tiny => ((cpu / 2).max(1), 0, percent_down(cpu, 33).max(1)),
    };
    settings.set("max_worker_processes", sizes.workers + 8);
    // The server takes at most 1024 of each.
    settings.set("max_parallel_workers", parallel.min(1024));
    settings.set("max_parallel_workers_per_gather", gather.min(1024));
    settings.set("max_parallel_maintenance_workers", maintenance.min(1024));
    settings.set("max_logical_replication_workers", 8);
    settings.set("max_sync_workers_per_subscription", 6);
    if input.pg_version >= 18 {
        let io = match input.profile {
            Profile::Oltp => percent_up(cpu, 25).clamp(4, 16),
            Profile::Olap => percent_up(cpu, 50).clamp(4, 32),
            Profile::Crit => percent_up(cpu, 25).clamp(4, 8),
            Profile::Tiny => 3,
        };
        // `auto` stays with workers: io_uring is often forbidden in containers, and then the server does not start.
        let method = if input.io_method == "auto" { "worker" } else { input.io_method.as_str() };
        settings.set("io_method", method);
        settings.set("io_workers", io);
        settings.set("file_copy_method", "clone");
    }
    if input.storage_ssd {
        settings.set("random_page_cost", 1.1);
        settings.set("effective_io_concurrency", 200);
        settings.set("maintenance_io_concurrency", 100);
    }
    settings.set("bgwriter_delay", "10ms");
    settings.set("bgwriter_lru_maxpages", 800);
    settings.set("bgwriter_lru_multiplier", 5.0);
    let (delay, limit) = if input.profile == Profile::Olap { ("10ms", 10_000) } else { ("20ms", 2000) };
    settings.set("vacuum_cost_delay", delay);
    settings.set("vacuum_cost_limit", limit);
}

fn wal(settings: &mut Settings, input: &TuningInput, sizes: &Sizes) {
    let disk = sizes.disk_share;
    settings.set("wal_level", "logical");
    settings.set("wal_log_hints", "on");
    if input.pg_version >= 15 {
        settings.set("wal_compression", "lz4");
    }
    settings.set("wal_buffers", "16MB");
    let crit = input.profile == Profile::Crit;
    settings.set("wal_writer_delay", if crit { "10ms" } else { "20ms" });
    settings.set("wal_writer_flush_after", if crit { "0" } else { "1MB" });
    settings.set("commit_delay", 20);
    settings.set("commit_siblings", 10);
    settings.set("checkpoint_timeout", "15min");
    settings.set("checkpoint_completion_target", 0.95);
    settings.gb("min_wal_size", disk.min(200));
    settings.gb("max_wal_size", (4 * disk).min(2000));
    settings.gb("max_slot_wal_keep_size", (6 * disk).min(3000));
    if input.backrest_enabled {
        settings.set("archive_mode", "on");
        settings.set("archive_timeout", "300s");
        // The server expands %p and %%; the words themselves go through a shell.
        let stanza = shell(&input.stanza).replace('%', "%%");
        settings.set("archive_command", format!("pgbackrest --stanza={stanza} archive-push %p"));
    } else {
        settings.set("archive_mode", "off");
    }
}

fn replication(settings: &mut Settings, input: &TuningInput) {
    settings.set("max_wal_senders", 50);
    settings.set("max_replication_slots", 50);
    settings.set("track_commit_timestamp", "on");
    settings.set("hot_standby", "on");
    settings.set("hot_standby_feedback", "on");
    settings.set("max_standby_archive_delay", "10min");
    settings.set("max_standby_streaming_delay", "3min");
    settings.set("wal_receiver_status_interval", "1s");
    settings.set("wal_receiver_timeout", "60s");
    if input.pg_version >= 17 {
        settings.set("sync_replication_slots", "on");
    }
    if input.pg_version >= 18 {
        let keep = if input.profile == Profile::Crit { "3d" } else { "7d" };
        settings.set("idle_replication_slot_timeout", keep);
    }
    if input.profile == Profile::Crit && input.pg_version <= 15 {
        settings.set("vacuum_defer_cleanup_age", 500_000);
    }
}

fn planner(settings: &mut Settings, input: &TuningInput) {
    let statistics = match input.profile {
        Profile::Oltp | Profile::Crit => 400,
        Profile::Olap => 1000,
        Profile::Tiny => 200,
    };
    settings.set("default_statistics_target", statistics);
    match input.profile {
        Profile::Oltp | Profile::Crit => {
            settings.set("parallel_setup_cost", 2000);
            settings.set("parallel_tuple_cost", 0.2);
            settings.set("min_parallel_table_scan_size", "32MB");
            settings.set("min_parallel_index_scan_size", "2MB");
        }
        Profile::Olap => {
            settings.set("enable_partitionwise_join", "on");
            settings.set("enable_partitionwise_aggregate", "on");
        }
        Profile::Tiny => {}
    }
}

fn logging(settings: &mut Settings, input: &TuningInput) {
    settings.set("logging_collector", "on");
    settings.set("log_destination", "csvlog");
    settings.set("log_directory", input.log_dir.as_str());
    // A week of files, each overwritten on the same day of the next week.
    settings.set("log_filename", "postgresql-%a.log");
    settings.set("log_file_mode", "0640");
    settings.set("log_rotation_age", "1d");
    settings.set("log_rotation_size", "0");
    settings.set("log_truncate_on_rotation", "on");
    settings.set("log_timezone", "UTC");
    settings.set("log_checkpoints", "on");
    settings.set("log_lock_waits", "on");
    settings.set("log_replication_commands", "on");
    settings.set("log_statement", "ddl");
    settings.set("log_temp_files", "1MB");
    let slow = if input.profile == Profile::Olap { "1000ms" } else { "100ms" };
    settings.set("log_min_duration_statement", slow);
    if input.pg_version >= 18 && matches!(input.profile, Profile::Oltp | Profile::Crit) {
        settings.set("log_lock_failures", "on");
    }
    match (input.profile, input.pg_version >= 18) {
        (Profile::Crit, true) => settings.set("log_connections", "receipt,authentication,authorization"),
        (Profile::Crit, false) => settings.set("log_connections", "on"),
        (Profile::Oltp | Profile::Olap, true) => settings.set("log_connections", "authorization"),
        (Profile::Oltp | Profile::Olap, false) | (Profile::Tiny, _) => {}
    }
    if input.profile == Profile::Crit {
        settings.set("log_disconnections", "on");
    }
    settings.set("track_io_timing", "on");
    settings.set("track_functions", "all");
    let query = if input.profile == Profile::Crit { 32_768 } else { 8192 };
    settings.set("track_activity_query_size", query);
}

fn vacuum(settings: &mut Settings, input: &TuningInput) {
    let (vacuum, analyze) = if input.profile == Profile::Olap { (1000, 500) } else { (500, 250) };
    settings.set("log_autovacuum_min_duration", "1s");
    settings.set("autovacuum_max_workers", if input.profile == Profile::Tiny { 2 } else { 3 });
    settings.set("autovacuum_naptime", "1min");
    settings.set("autovacuum_vacuum_cost_delay", -1);
    settings.set("autovacuum_vacuum_cost_limit", -1);
    settings.set("autovacuum_freeze_max_age", 1_000_000_000);
    settings.set("autovacuum_vacuum_threshold", vacuum);
    settings.set("autovacuum_analyze_threshold", analyze);
    if input.profile != Profile::Tiny {
        settings.set("autovacuum_vacuum_scale_factor", 0.08);
        settings.set("autovacuum_analyze_scale_factor", 0.04);
    }
}

/// Settings of a library are given only when it is loaded: since version 15 a server refuses unknown names
/// under a prefix that a library owns, and without the library nobody owns them.
fn libraries(settings: &mut Settings, input: &TuningInput, sizes: &Sizes) {
    settings.set("shared_preload_libraries", input.libs.as_str());
    let loaded = |name| has_library(&input.libs, name);
    if loaded("pg_stat_statements") {
        settings.set("pg_stat_statements.max", if input.profile == Profile::Tiny { 2500 } else { 10_000 });
        settings.set("pg_stat_statements.track", "all");
        settings.set("pg_stat_statements.track_utility", "off");
        settings.set("pg_stat_statements.track_planning", "off");
    }
    if loaded("auto_explain") {
        settings.set("auto_explain.log_min_duration", "1s");
        settings.set("auto_explain.log_analyze", "on");
        settings.set("auto_explain.log_verbose", "on");
        settings.set("auto_explain.log_timing", "on");
        settings.set("auto_explain.log_nested_statements", "on");
    }
    if loaded("pg_wait_sampling") {
        settings.set("pg_wait_sampling.history_size", 100_000);
    }
    if loaded("pg_cron") {
        settings.set("cron.database_name", input.primary_db.as_str());
    }
    if loaded("timescaledb") {
        settings.set("timescaledb.telemetry_level", "off");
        settings.set("timescaledb.max_background_workers", sizes.workers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(profile: Profile, pg_version: u32, memory_mb: u64, cpu: u64, disk_gib: u64) -> TuningInput {
        TuningInput {
            profile,
            pg_version,
            memory_mb,
            cpu,
            disk_bytes: disk_gib << 30,
            max_conn: None,
            shared_buffer_ratio: 0.25,
            storage_ssd: true,
            libs: "pg_stat_statements, auto_explain".to_owned(),
            pgbouncer_is_default_dest: true,
            pwd_enc: "scram-sha-256".to_owned(),
            io_method: "worker".to_owned(),
            log_dir: "/pg/log/postgres".to_owned(),
            primary_db: "postgres".to_owned(),
            backrest_enabled: true,
            stanza: "pg-test".to_owned(),
            parameters: IndexMap::new(),
        }
    }

    /// Each row was worked out by hand from the formulas.
    #[test]
    fn sizes_are_those_worked_out_by_hand() {
        type Row<'a> = (Profile, u64, u64, u64, &'a [(&'a str, &'a str)]);
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            (Profile::Oltp, 65_536, 16, 1000, &[
                ("max_connections", "500"), ("shared_buffers", "16384MB"), ("maintenance_work_mem", "4096MB"),
                ("effective_cache_size", "49152MB"), ("work_mem", "64MB"), ("max_worker_processes", "32"),
                ("max_parallel_workers", "8"), ("max_parallel_workers_per_gather", "3"),
                ("max_parallel_maintenance_workers", "6"), ("max_locks_per_transaction", "500"),
                ("temp_file_limit", "50GB"), ("min_wal_size", "50GB"), ("max_wal_size", "200GB"),
                ("max_slot_wal_keep_size", "300GB"), ("default_statistics_target", "400"),
            ]),
            (Profile::Olap, 65_536, 16, 1000, &[
                ("max_connections", "500"), ("maintenance_work_mem", "8192MB"), ("work_mem", "64MB"),
                ("max_worker_processes", "36"), ("max_parallel_workers", "13"),
                ("max_parallel_workers_per_gather", "8"), ("max_locks_per_transaction", "1000"),
                ("temp_file_limit", "200GB"), ("vacuum_cost_delay", "10ms"),
                ("idle_in_transaction_session_timeout", "0"), ("enable_partitionwise_join", "on"),
            ]),
            (Profile::Crit, 524_288, 64, 10_000, &[
                ("shared_buffers", "131072MB"), ("work_mem", "262MB"), ("max_worker_processes", "80"),
                ("max_parallel_workers", "32"), ("max_parallel_workers_per_gather", "0"),
                ("max_parallel_maintenance_workers", "22"), ("max_wal_size", "400GB"),
                ("max_slot_wal_keep_size", "600GB"), ("wal_writer_flush_after", "0"),
                ("track_activity_query_size", "32768"), ("log_disconnections", "on"),
            ]),
            (Profile::Tiny, 1000, 1, 10, &[
                ("max_connections", "250"), ("shared_buffers", "250MB"), ("maintenance_work_mem", "63MB"),
                ("effective_cache_size", "750MB"), ("work_mem", "16MB"), ("max_worker_processes", "20"),
                ("max_parallel_workers", "1"), ("max_parallel_workers_per_gather", "0"),
                ("max_parallel_maintenance_workers", "1"), ("temp_file_limit", "1GB"), ("max_wal_size", "4GB"),
                ("autovacuum_max_workers", "2"), ("pg_stat_statements.max", "2500"),
            ]),
        ];
        for (profile, memory, cpu, disk, expected) in table {
            let settings = Tuning::compute(&input(*profile, 15, *memory, *cpu, *disk)).unwrap();
            for (name, value) in *expected {
                let got = settings.get(*name).map(|v| v.to_string().trim_matches('"').to_owned());
                assert_eq!(got.as_deref(), Some(*value), "{profile:?} {name}");
            }
        }
    }

    #[test]
    fn a_ratio_that_is_not_binary_does_not_round_up_twice() {
        assert_eq!(share(24_000, 0.01), 240);
        assert_eq!(share(10_000, 0.07), 700);
        assert_eq!(share(1001, 0.25), 251);
        assert_eq!(share(10, 0.01), 1);
    }

    #[test]
    fn connections_follow_the_destination_unless_given() {
        let mut given = input(Profile::Oltp, 17, 8192, 4, 100);
        given.pgbouncer_is_default_dest = false;
        assert_eq!(Tuning::compute(&given).unwrap()["max_connections"], 1000);
        given.max_conn = Some(200);
        assert_eq!(Tuning::compute(&given).unwrap()["max_connections"], 200);
        given.max_conn = Some(5);
        assert_eq!(Tuning::compute(&given).unwrap()["max_connections"], 1000);
    }

    #[test]
    fn names_appear_only_where_the_version_knows_them() {
        let of = |profile, version| Tuning::compute(&input(profile, version, 8192, 4, 100)).unwrap();
        for (name, from) in [
            ("wal_compression", 15),
            ("sync_replication_slots", 17),
            ("io_method", 18),
            ("log_lock_failures", 18),
        ] {
            for version in 13..=18 {
                assert_eq!(
                    of(Profile::Oltp, version).contains_key(name),
                    version >= from,
                    "{name} {version}"
                );
            }
        }
        assert!(of(Profile::Crit, 15).contains_key("vacuum_defer_cleanup_age"));
        assert!(!of(Profile::Crit, 16).contains_key("vacuum_defer_cleanup_age"));
        assert_eq!(of(Profile::Crit, 17)["log_connections"], "on");
        assert_eq!(of(Profile::Crit, 18)["log_connections"], "receipt,authentication,authorization");
        assert!(!of(Profile::Tiny, 18).contains_key("log_connections"));
        assert_eq!(of(Profile::Olap, 18)["io_workers"], 4);
        assert_eq!(of(Profile::Tiny, 18)["io_workers"], 3);
    }

    #[test]
    fn libraries_bring_their_settings_and_their_locks() {
        let mut citus = input(Profile::Olap, 16, 8192, 4, 100);
        citus.libs = "citus, pg_cron,\"timescaledb\"".to_owned();
        let settings = Tuning::compute(&citus).unwrap();
        assert_eq!(settings["max_locks_per_transaction"], 2000);
        assert_eq!(settings["max_prepared_transactions"], 500);
        assert_eq!(settings["cron.database_name"], "postgres");
        assert_eq!(settings["timescaledb.max_background_workers"], 20);
        assert!(!settings.contains_key("auto_explain.log_timing"));
    }

    #[test]
    fn parameters_of_the_inventory_win_and_must_be_settings() {
        let mut own = input(Profile::Oltp, 16, 8192, 4, 100);
        own.parameters.insert("max_connections".into(), 321.into());
        own.parameters.insert("jit".into(), false.into());
        own.parameters.insert("my_app.flag".into(), "a'b".into());
        let settings = Tuning::compute(&own).unwrap();
        assert_eq!(settings["max_connections"], 321);
        assert_eq!(settings["jit"], "off");
        assert_eq!(settings["my_app.flag"], "a'b");
        own.parameters = IndexMap::from([("a b".to_owned(), Value::from(1))]);
        assert_eq!(Tuning::compute(&own), Err(TuningError::Name("a b".into())));
        own.parameters = IndexMap::from([("jit".to_owned(), Value::Null)]);
        assert_eq!(Tuning::compute(&own), Err(TuningError::Value("jit".into())));
    }

    #[test]
    fn archiving_quotes_the_stanza_and_is_off_without_backups() {
        let mut archive = input(Profile::Oltp, 16, 8192, 4, 100);
        archive.stanza = "100% mine".to_owned();
        let settings = Tuning::compute(&archive).unwrap();
        assert_eq!(settings["archive_command"], "pgbackrest --stanza='100%% mine' archive-push %p");
        archive.backrest_enabled = false;
        let settings = Tuning::compute(&archive).unwrap();
        assert_eq!(settings["archive_mode"], "off");
        assert!(!settings.contains_key("archive_command"));
    }

    #[test]
    fn what_cannot_be_computed_is_an_error() {
        assert_eq!(Tuning::compute(&input(Profile::Oltp, 12, 1, 1, 1)), Err(TuningError::Version(12)));
        assert_eq!(Tuning::compute(&input(Profile::Oltp, 16, 0, 1, 1)), Err(TuningError::Empty("memory")));
        let mut ratio = input(Profile::Oltp, 16, 1, 1, 1);
        for wrong in [0.0, 1.0, -0.1, f64::NAN] {
            ratio.shared_buffer_ratio = wrong;
            assert!(matches!(Tuning::compute(&ratio), Err(TuningError::Ratio(_))), "{wrong}");
        }
        assert_eq!(Profile::parse("tiny.yml"), Ok(Profile::Tiny));
        assert!(Profile::parse("tniy.yml").unwrap_err().to_string().contains("did you mean `tiny.yml`"));
    }

    #[test]
    fn crit_insists() {
        let crit = Policy::new(Profile::Crit, 1_048_576, "off", false);
        assert!(crit.synchronous_mode && crit.synchronous_mode_strict && crit.data_checksums);
        assert_eq!(crit.watchdog_mode, "automatic");
        let oltp = Policy::new(Profile::Oltp, 0, "off", true);
        assert!(oltp.synchronous_mode && !oltp.synchronous_mode_strict);
        assert_eq!(oltp.watchdog_mode, "off");
    }
}
