//! JSON is public: plans as one document, events as lines.

use serde_json::{Value, json};

use crate::plan::Plan;

/// `plan --format json`.
pub fn plan(plan: &Plan) -> Value {
    let restarts: Vec<Value> = plan
        .restarts()
        .into_iter()
        .map(|(node, unit, postgres)| json!({"node": node, "unit": unit, "interrupts_postgresql": postgres}))
        .collect();
    let pairs = |list: Vec<(String, String, String)>| -> Vec<Value> {
        list.into_iter()
            .map(|(node, resource, why)| json!({"node": node, "resource": resource, "reason": why}))
            .collect()
    };
    let unreachable: Vec<Value> =
        plan.unreachable.iter().map(|(node, why)| json!({"node": node, "reason": why})).collect();
    json!({
        "format": 1,
        "changes": plan.lines(),
        "restarts": restarts,
        "notes": pairs(plan.notes()),
        "waits": plan.waits().into_iter().map(|(node, what)| json!({"node": node, "until": what})).collect::<Vec<_>>(),
        "failures": pairs(plan.failures()),
        "unreachable": unreachable,
        "summary": plan.summary(),
    })
}
