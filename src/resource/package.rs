//! `package`: distribution packages, installed in one transaction without starting anything.
//!
//! Debian's packages enable and start their services at install. The units of `no_start` are masked
//! before the packages arrive, which holds over a power cut in the middle too; `service` unmasks
//! what it starts. A `policy-rc.d` keeps everything else still during the transaction.

use serde::Deserialize;

use super::{Change, Diff, Kind, Query, Seen, Verdict, short_list};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    #[serde(deserialize_with = "super::names")]
    pub names: Vec<String>,
    /// Units that must not start by themselves, now or at the next boot.
    #[serde(default, deserialize_with = "super::names")]
    pub no_start: Vec<String>,
}

impl Kind for Package {
    fn id(&self) -> String {
        format!("package {}", short_list(&self.names))
    }

    fn queries(&self) -> Vec<Query> {
        self.names.iter().cloned().map(Query::Package).collect()
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let missing: Vec<String> =
            self.names.iter().filter(|n| !seen.observed.packages.contains_key(*n)).cloned().collect();
        if missing.is_empty() {
            return Diff::Same;
        }
        let mut change = Change::new(
            Verdict::Create,
            format!("missing: {}", short_list(&missing)),
            self.install(&missing),
        );
        change.installs = missing;
        Diff::Change(change)
    }
}

impl Package {
    fn install(&self, missing: &[String]) -> String {
        let masks = self.no_start.iter().map(|u| shell(u)).collect::<Vec<_>>().join(" ");
        let names = missing.iter().map(|n| shell(n)).collect::<Vec<_>>().join(" ");
        format!(
            r#"for u in {masks}; do
  f=/etc/systemd/system/$u.service
  [ -e "$f" ] || [ -L "$f" ] || [ -e "/lib/systemd/system/$u.service" ] || ln -s /dev/null "$f" || exit
done
P=/usr/sbin/policy-rc.d
if [ ! -e $P ]; then
  printf '#!/bin/sh\n# pgctl: nothing starts during an install\nexit 101\n' >$P && chmod 0755 $P || exit
elif ! grep -q '^# pgctl:' $P; then
  P=
fi
trap '[ -z "$P" ] || rm -f "$P"' EXIT
# A shell that is ended by a signal runs no EXIT trap of its own.
trap 'exit 143' TERM INT HUP
export DEBIAN_FRONTEND=noninteractive
# An install that was cut off half way is finished first.
[ -z "$(dpkg --audit 2>&1)" ] || dpkg --configure -a --force-confold || exit
get() {{
  apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o APT::Install-Suggests=false \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Acquire::Retries=3 install "$@"
}}
get {names} && exit
# The package lists may be missing or old: fetch them once and try again.
apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update || exit
get {names}"#
        )
    }
}
