//! `etcd_member`: the birth of a member: whether it starts a new cluster or joins the one that is there.
//!
//! That is decided on the node at that moment and kept in a file of its own, which etcd reads only while its data
//! directory is empty. A cluster is only begun by a majority of the members that the inventory names, and
//! only with those that take part: a member that is listed but never started would keep the cluster's version at its
//! lowest (etcd documentation, "Rolling upgrades": the cluster version is the lowest of its members'), and
//! Patroni refuses that.

use serde::Deserialize;

use super::{Change, Diff, Kind, PathKind, Query, Seen, Verdict};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    #[serde(deserialize_with = "super::name")]
    pub name: String,
    /// The data directory.
    #[serde(deserialize_with = "super::path")]
    pub data: String,
    /// Where the settings of its birth are kept.
    #[serde(deserialize_with = "super::path")]
    pub file: String,
    /// Name of the cluster.
    #[serde(deserialize_with = "super::name")]
    pub token: String,
    pub peer_url: String,
    /// Client URLs of the other members.
    pub others: Vec<String>,
    /// `name=peer URL` of the members that take part in this run, this one among them.
    pub present: Vec<String>,
    /// `name=peer URL` of all members that the inventory names.
    pub known: Vec<String>,
    /// Names of the present members that have data already.
    pub born: Vec<String>,
}

impl Kind for Member {
    fn id(&self) -> String {
        format!("etcd_member {}", self.name)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Path { path: self.log(), want: None, show: false }]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        match seen.observed.paths.get(&self.log()).map(|m| m.kind) {
            Some(PathKind::Directory) => Diff::Same,
            Some(_) => Diff::Failed(format!("`{}` is there and is not a directory", self.log())),
            None => Diff::Change(Change::new(
                Verdict::Create,
                "no data yet: joins the cluster, or begins it",
                self.birth(),
            )),
        }
    }
}

impl Member {
    /// The write-ahead log: it alone says that a member was born; the rest of the directory is made before it joins.
    fn log(&self) -> String {
        format!("{}/member/wal", self.data)
    }

    fn birth(&self) -> String {
        // One member alone has no others to ask.
        let endpoints = if self.others.is_empty() { String::new() } else { self.others.join(",") };
        let majority = |n: usize| n * 2 > self.known.len();
        let refused = |why: String| format!("echo {}; printf '%s\\n' \"$why\"; exit 1", shell(&why));
        let begin = if majority(self.born.len()) {
            refused(format!(
                "{} has no data, and {} that have do not answer; start etcd there first: `systemctl start etcd`",
                self.name,
                self.born.join(", ")
            ))
        } else if majority(self.present.len()) {
            format!("born new {}", shell(&self.present.join(",")))
        } else {
            refused(format!(
                "{} has no data and none of the others answers. If the cluster exists, start etcd there first. If it never \
                 existed, deploy a majority of its {} members together, without --limit",
                self.name,
                self.known.len()
            ))
        };
        // Members that may just be booting are given time to answer.
        let patience = if self.born.is_empty() { 1 } else { 15 };
        format!(
            r#"name={name}; peer={peer}; endpoints={endpoints}
ctl() {{ ETCDCTL_API=3 etcdctl --endpoints="$endpoints" --dial-timeout=2s --command-timeout=5s "$@"; }}
born() {{
  umask 022
  printf 'ETCD_INITIAL_CLUSTER_STATE=%s\nETCD_INITIAL_CLUSTER=%s\nETCD_INITIAL_CLUSTER_TOKEN=%s\n' "$1" "$2" {token} >{file}.new &&
  sync -- {file}.new && mv -f -- {file}.new {file}
}}
# A line of the list: ID, status, name, peer URLs, client URLs, learner. A member that never started has no name.
list=; why=; n=0
while [ -n "$endpoints" ] && [ $n -lt {patience} ]; do
  list=$(ctl member list 2>/dev/null) && [ -n "$list" ] && break
  why=$(ctl member list 2>&1 | tail -n 2); list=; n=$((n + 1)); [ $n -ge {patience} ] || sleep 2
done
if [ -z "$list" ]; then {begin}; exit; fi
mine=$(printf '%s\n' "$list" | grep -F ", $peer, ")
if [ -n "$mine" ]; then
  case $mine in
    *", unstarted, "*) ;;
    # It was a member and has lost its data: under its old number it could break promises that it has forgotten.
    *) ctl member remove "${{mine%%,*}}" || exit; mine= ;;
  esac
fi
if [ -z "$mine" ]; then
  # Members join one at a time; the cluster refuses the next one until the last one has started.
  n=0
  until ctl member add "$name" --peer-urls="$peer" >/dev/null 2>&1; do
    n=$((n + 1))
    [ $n -lt 60 ] || {{ ctl member add "$name" --peer-urls="$peer"; exit; }}
    sleep 1
  done
  list=$(ctl member list) || exit
fi
all="$name=$peer"
while IFS=', ' read -r id status other url rest; do
  # One that was added and has not started yet tells no name: the inventory knows it by its URL.
  [ "$status" != unstarted ] || for k in {known}; do [ "${{k#*=}}" != "$url" ] || other=${{k%%=*}}; done
  [ -z "$other" ] || [ "$other" = "$name" ] || all="$all,$other=$url"
done <<PGCTL_LIST
$list
PGCTL_LIST
born existing "$all""#,
            name = shell(&self.name),
            peer = shell(&self.peer_url),
            endpoints = shell(&endpoints),
            token = shell(&self.token),
            file = shell(&self.file),
            known = self.known.iter().map(|k| shell(k)).collect::<Vec<_>>().join(" "),
        )
    }
}
