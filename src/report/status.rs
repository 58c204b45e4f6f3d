//! The page of `pgctl status`.

use std::fmt::Write as _;

use comfy_table::{Cell, Table, presets};

use super::Style;
use crate::operation::status::ClusterStatus;

/// One cluster on one page.
pub fn page(status: &ClusterStatus, style: Style) -> String {
    let mut s = String::new();
    let verdict = if status.healthy { style.green("healthy") } else { style.red("not healthy") };
    let _ = writeln!(s, "{}: {verdict}", style.bold(&status.name));
    for reason in &status.reasons {
        let _ = writeln!(s, "  {} {reason}", style.red("-"));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["  instance", "address", "role", "state", "TL", "lag", "services", "disk free"]);
    for i in &status.instances {
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let units =
            if let Some(why) = &i.unreachable {
                format!("unreachable: {}", why.lines().next().unwrap_or_default())
            } else {
                let parts = i.units.iter().map(|(unit, state)| {
                    if state == "active" { unit.clone() } else { format!("{unit} {state}") }
                });
                parts.collect::<Vec<_>>().join(", ")
            };
        let restart = if i.pending_restart { " (restart pending)" } else { "" };
        table.add_row([
            Cell::new(format!("  {}", i.name)),
            Cell::new(&i.address),
            Cell::new(&i.role),
            Cell::new(format!("{}{restart}", i.state)),
            Cell::new(number(i.timeline)),
            Cell::new(if i.role == "leader" { "-".to_owned() } else { number(i.lag_bytes) }),
            Cell::new(units),
            Cell::new(i.disk_free_percent.map_or_else(|| "-".to_owned(), |p| format!("{p} %"))),
        ]);
    }
    for line in table.to_string().lines() {
        let _ = writeln!(s, "{}", line.trim_end());
    }
    let etcd = match status.etcd_healthy {
        Some(true) => "healthy",
        Some(false) => "no quorum",
        None => "unknown",
    };
    let backups = match (status.full_backups, status.last_backup_seconds) {
        (Some(n), Some(at)) => {
            let at =
                jiff::Timestamp::from_second(at).map(|t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
            format!("{n} full, last {}", at.unwrap_or_default())
        }
        (Some(n), None) => format!("{n} full"),
        (None, _) => "unknown".to_owned(),
    };
    let _ = writeln!(s, "  etcd: {etcd}   backups: {backups}");
    for (service, command) in &status.connect {
        let _ = writeln!(s, "  {service:8} {command}");
    }
    s
}
