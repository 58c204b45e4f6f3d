//! Selection: `--limit` picks nodes as Ansible's patterns do, `--stage` picks stages.

use crate::playbook::Playbook;
use crate::text::suggest::nearest;
use crate::topology::Topology;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("`--limit {pattern}`: `{part}` is no cluster, group, node or address of this inventory{hint}")]
    NoSuchNode { pattern: String, part: String, hint: String },
    #[error("`--limit '{0}'` leaves no node")]
    Nothing(String),
    #[error("`--stage {0}`: the playbook has no such stage{1}")]
    NoSuchStage(String, String),
}

/// The nodes that `pattern` picks, as indexes in order: parts separated by `,` are added,
/// `!part` is taken away, `&part` keeps what is in both. A part is a cluster, group, node name or address, or
/// a glob over them.
pub fn nodes(topology: &Topology, pattern: Option<&str>) -> Result<Vec<usize>, SelectError> {
    let all: Vec<usize> = (0..topology.nodes.len()).collect();
    let Some(pattern) = pattern else { return Ok(all) };
    let parts: Vec<&str> = pattern.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    // An empty variable of a script must not mean everything.
    if parts.is_empty() {
        return Err(SelectError::Nothing(pattern.to_owned()));
    }
    // As in Ansible: a pattern of exclusions alone starts from everything.
    let only_excludes = parts.iter().all(|p| p.starts_with('!') || p.starts_with('&'));
    let mut chosen: Vec<bool> = vec![only_excludes; all.len()];
    let (mut add, mut both, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        match part.chars().next() {
            Some('!') => without.push(&part[1..]),
            Some('&') => both.push(&part[1..]),
            _ => add.push(part),
        }
    }
    let matched = |part: &str| -> Result<Vec<bool>, SelectError> {
        let hits: Vec<bool> = all.iter().map(|&n| matches(topology, n, part)).collect();
        if hits.iter().any(|h| *h) || part == "all" {
            return Ok(if part == "all" { vec![true; all.len()] } else { hits });
        }
        let names = names(topology);
        let hint = nearest(part, names.iter().map(String::as_str));
        Err(SelectError::NoSuchNode {
            pattern: pattern.to_owned(),
            part: part.to_owned(),
            hint: hint.map_or_else(String::new, |n| format!("; did you mean `{n}`?")),
        })
    };
    for part in add {
        for (c, hit) in chosen.iter_mut().zip(matched(part)?) {
            *c |= hit;
        }
    }
    for part in both {
        for (c, hit) in chosen.iter_mut().zip(matched(part)?) {
            *c &= hit;
        }
    }
    for part in without {
        for (c, hit) in chosen.iter_mut().zip(matched(part)?) {
            *c &= !hit;
        }
    }
    let picked: Vec<usize> = all.into_iter().filter(|&n| chosen[n]).collect();
    if picked.is_empty() { Err(SelectError::Nothing(pattern.to_owned())) } else { Ok(picked) }
}

fn names(topology: &Topology) -> Vec<String> {
    let mut names = Vec::new();
    for node in &topology.nodes {
        names.extend([node.name.clone(), node.address.clone()]);
        names.extend(node.groups.iter().cloned());
    }
    names.extend(topology.clusters.iter().map(|c| c.name.clone()));
    names.sort();
    names.dedup();
    names
}

fn matches(topology: &Topology, index: usize, part: &str) -> bool {
    let node = &topology.nodes[index];
    let cluster = node.instance.map(|i| topology.clusters[i.cluster].name.as_str());
    glob(part, &node.name)
        || glob(part, &node.address)
        || node.groups.iter().any(|g| glob(part, g))
        || cluster.is_some_and(|c| glob(part, c))
}

/// `*` and `?`, as in file names.
fn glob(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j, mut star, mut mark) = (0, 0, None, 0);
    while j < t.len() {
        if i < p.len() && (p[i] == '?' || p[i] == t[j]) && p[i] != '*' {
            i += 1;
            j += 1;
        } else if i < p.len() && p[i] == '*' {
            star = Some(i);
            mark = j;
            i += 1;
        } else if let Some(s) = star {
            i = s + 1;
            mark += 1;
            j = mark;
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

/// The stages that `wanted` names (all when empty), in the playbook's order.
pub fn stages(playbook: &Playbook, wanted: &[String]) -> Result<Vec<usize>, SelectError> {
    for name in wanted {
        if !playbook.stages.iter().any(|s| glob(name, &s.name)) {
            let near = nearest(name, playbook.stages.iter().map(|s| s.name.as_str()));
            let list = playbook.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
            let hint = near.map_or_else(|| format!(" (it has {list})"), |n| format!("; did you mean `{n}`?"));
            return Err(SelectError::NoSuchStage(name.clone(), hint));
        }
    }
    Ok((0..playbook.stages.len())
        .filter(|&i| wanted.is_empty() || wanted.iter().any(|w| glob(w, &playbook.stages[i].name)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs_match_as_in_file_names() {
        assert!(glob("pg-*", "pg-test-1") && glob("10.10.10.1?", "10.10.10.11") && glob("*", ""));
        assert!(!glob("pg-?", "pg-test") && !glob("a*b", "abc") && glob("a*b*", "abc"));
    }
}
