//! Topology, facts and playbook → the resources that each node should have. Templates are rendered
//! here; rendering looks at no clock, no randomness and not at who leads.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::playbook::{Entry, On, Playbook};
use crate::resource::{self, Kind};
use crate::template::{TemplateError, Templates};
use crate::text::diagnostic::Span;
use crate::text::yaml::{Data, Yaml};
use crate::topology::Topology;

/// What one node should have, in order: (stage index, resource).
#[derive(Debug, Clone)]
pub struct Desired {
    pub node: usize,
    pub resources: Vec<(usize, Arc<dyn Kind>)>,
}

/// A resource that cannot be made from the playbook and the node's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node}, stage `{stage}`, {kind}: {message}")]
pub struct BuildError {
    pub node: String,
    pub stage: String,
    pub kind: String,
    pub message: String,
    /// Where the playbook asks for it.
    pub span: Span,
}

/// The resources of one node. `leader` is the member that leads its cluster or is to lead it;
/// `selected` says which stages run.
pub fn build(
    topology: &Topology,
    node: usize,
    playbook: &Playbook,
    selected: &[usize],
    templates: &Templates,
    context: &Value,
    leader: Option<&str>,
) -> Result<Desired, Vec<BuildError>> {
    let mut resources: Vec<(usize, Arc<dyn Kind>)> = Vec::new();
    let mut errors = Vec::new();
    for &index in selected {
        let stage = &playbook.stages[index];
        if !runs_on(topology, node, stage.on, leader) {
            continue;
        }
        for entry in &stage.entries {
            match make(entry, templates, context) {
                Ok(made) => {
                    for resource in made {
                        let id = resource.id();
                        if !id.starts_with("wait ")
                            && resources.iter().any(|(i, r)| *i == index && r.id() == id)
                        {
                            errors.push(error(
                                topology,
                                node,
                                &stage.name,
                                entry,
                                format!("`{id}` is there twice"),
                            ));
                        }
                        resources.push((index, resource));
                    }
                }
                Err(message) => errors.push(error(topology, node, &stage.name, entry, message)),
            }
        }
    }
    if errors.is_empty() { Ok(Desired { node, resources }) } else { Err(errors) }
}

fn error(topology: &Topology, node: usize, stage: &str, entry: &Entry, message: String) -> BuildError {
    BuildError {
        node: topology.nodes[node].name.clone(),
        stage: stage.to_owned(),
        kind: entry.kind.clone(),
        message,
        span: entry.span,
    }
}

fn runs_on(topology: &Topology, node: usize, on: On, leader: Option<&str>) -> bool {
    let node = &topology.nodes[node];
    let leads = || leader == Some(node.name.as_str());
    match on {
        On::All => true,
        On::PgCluster => node.instance.is_some(),
        On::Etcd => node.etcd_member.is_some(),
        On::Infra => node.groups.iter().any(|g| g == "infra"),
        On::Leader => node.instance.is_some() && leads(),
        On::Replicas => node.instance.is_some() && !leads(),
    }
}

fn make(entry: &Entry, templates: &Templates, context: &Value) -> Result<Vec<Arc<dyn Kind>>, String> {
    let words = |e: TemplateError| e.to_string();
    let Some(list) = &entry.for_each else {
        return Ok(one(entry, templates, context)?.into_iter().collect());
    };
    let items = match templates.expression(list, context).map_err(words)? {
        Value::Array(items) => items,
        Value::Object(map) => map.into_iter().map(|(k, v)| json!({"key": k, "value": v})).collect(),
        Value::Null => Vec::new(),
        other => return Err(format!("`for_each: {list}` is no list: {other}")),
    };
    let mut made = Vec::new();
    let mut context = context.clone();
    for item in items {
        if let Value::Object(map) = &mut context {
            map.insert("item".into(), item);
        }
        made.extend(one(entry, templates, &context)?);
    }
    Ok(made)
}

fn one(entry: &Entry, templates: &Templates, context: &Value) -> Result<Option<Arc<dyn Kind>>, String> {
    let words = |e: TemplateError| e.to_string();
    if let Some(condition) = &entry.when
        && !templates.condition(condition, context).map_err(words)?
    {
        return Ok(None);
    }
    let mut args = value(&entry.args, templates, context).map_err(words)?;
    if entry.kind == "template" {
        args = rendered(args, templates, context)?;
    }
    resource::make(&entry.kind, args).map(Some)
}

/// `template` becomes `file`: the source is rendered, `dest` is its path.
fn rendered(args: Value, templates: &Templates, context: &Value) -> Result<Value, String> {
    let Value::Object(mut map) = args else { return Err("a template takes a mapping".into()) };
    let (Some(Value::String(src)), Some(dest)) = (map.remove("src"), map.remove("dest")) else {
        return Err("a template needs `src` and `dest`".into());
    };
    let content = templates.render(&src, context).map_err(|e| e.to_string())?;
    map.insert("path".into(), dest);
    map.insert("content".into(), Value::String(content));
    Ok(Value::Object(map))
}

/// The arguments with their strings rendered.
fn value(yaml: &Yaml, templates: &Templates, context: &Value) -> Result<Value, TemplateError> {
    Ok(match &yaml.data {
        Data::Str(text) => templates.value(text, context)?,
        Data::Seq(items) => {
            Value::Array(items.iter().map(|i| value(i, templates, context)).collect::<Result<_, _>>()?)
        }
        Data::Map(map) => {
            let mut object = Map::new();
            for (key, item) in map.iter() {
                let key = match key.to_json() {
                    Value::String(s) => s,
                    other => other.to_string(),
                };
                object.insert(key, value(item, templates, context)?);
            }
            Value::Object(object)
        }
        _ => yaml.to_json(),
    })
}
