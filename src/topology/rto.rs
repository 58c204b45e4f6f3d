//! Recovery time: how fast a cluster notices a dead leader, and what it risks for that.
//!
//! A plan is ten numbers: ttl, `loop_wait`, `retry_timeout`, `primary_start_timeout` and the watchdog's
//! `safety_margin` for Patroni; inter, fastinter, downinter, rise and fall for `HAProxy`.

use serde::Serialize;
use serde_json::Value;

use crate::text::suggest::nearest;

/// The timings of one plan. Seconds, unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rto {
    pub name: String,
    /// Life of the leader's key in etcd.
    pub ttl: u64,
    /// Pause between two runs of Patroni's loop.
    pub loop_wait: u64,
    /// How long etcd and Postgres are retried before a leader steps down.
    pub retry_timeout: u64,
    /// How long a crashed primary may recover in place before a replica takes over.
    pub primary_start_timeout: u64,
    /// The watchdog fires this long before the leader's key expires.
    pub safety_margin: u64,
    /// `HAProxy` time between two checks of a steady server, with its unit, as `2s`.
    pub inter: String,
    /// The same for a server on its way up or down.
    pub fastinter: String,
    /// The same for a server that is down.
    pub downinter: String,
    /// Good checks that bring a server up.
    pub rise: u64,
    /// Bad checks that take a server down.
    pub fall: u64,
}

/// Why a plan cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtoError {
    #[error("`pg_rto` `{name}` is not in `pg_rto_plan`; it has {known}{hint}")]
    Unknown { name: String, known: String, hint: String },
    #[error("`pg_rto` is the name of a plan, not `{0}`; seconds were its meaning before Pigsty 4.1")]
    NotAName(String),
    #[error("`pg_rto_plan` maps names to lists, not `{0}`")]
    NotAMap(String),
    #[error(
        "plan `{name}` needs ten values: ttl, loop_wait, retry_timeout, primary_start_timeout, safety_margin, inter, fastinter, downinter, rise, fall"
    )]
    Shape { name: String },
    #[error("plan `{name}`: {field} `{value}` is not {expected}")]
    Value { name: String, field: &'static str, value: String, expected: &'static str },
    #[error(
        "plan `{name}`: ttl {ttl} is less than loop_wait {loop_wait} + 2 * retry_timeout {retry_timeout}; a leader could lose its key while it still waits for etcd"
    )]
    TtlTooShort { name: String, ttl: u64, loop_wait: u64, retry_timeout: u64 },
}

/// Plans used when `pg_rto_plan` is not given: name, the seven numbers, the three times.
const DEFAULT_PLANS: [(&str, [u64; 7], [&str; 3]); 4] = [
    ("fast", [20, 5, 5, 15, 5, 3, 3], ["1s", "500ms", "1s"]),
    ("norm", [30, 5, 10, 25, 5, 3, 3], ["2s", "1s", "2s"]),
    ("safe", [60, 10, 20, 45, 10, 3, 3], ["3s", "1500ms", "3s"]),
    ("wide", [120, 20, 30, 95, 15, 3, 3], ["4s", "2s", "4s"]),
];

impl Rto {
    /// The plan that `pg_rto` names in `pg_rto_plan`; a null or empty `plans` means the four built-in ones.
    ///
    /// # Errors
    /// When the name is unknown, a value is of the wrong kind, or `ttl < loop_wait + 2 * retry_timeout`
    /// (the bound that Patroni documents for its dynamic configuration).
    pub fn choose(pg_rto: &Value, plans: &Value) -> Result<Self, RtoError> {
        let name = match pg_rto {
            Value::Null => "norm",
            Value::String(name) => name.as_str(),
            other => return Err(RtoError::NotAName(other.to_string())),
        };
        let rto = match plans {
            Value::Null => Self::built_in(name)?,
            Value::Object(map) if map.is_empty() => Self::built_in(name)?,
            Value::Object(map) => {
                let plan = map
                    .get(name)
                    .ok_or_else(|| unknown(name, &map.keys().map(String::as_str).collect::<Vec<_>>()))?;
                Self::read(name, plan)?
            }
            other => return Err(RtoError::NotAMap(other.to_string())),
        };
        if rto.ttl < rto.loop_wait + 2 * rto.retry_timeout {
            return Err(RtoError::TtlTooShort {
                name: rto.name,
                ttl: rto.ttl,
                loop_wait: rto.loop_wait,
                retry_timeout: rto.retry_timeout,
            });
        }
        Ok(rto)
    }

    /// The server options of `HAProxy` that follow from this plan. A server that fails its check loses its
    /// sessions at once, so that no client keeps writing to a former leader.
    pub fn server_options(&self) -> String {
        format!(
            "inter {} fastinter {} downinter {} rise {} fall {} on-marked-down shutdown-sessions slowstart 30s maxconn 3000 maxqueue 128",
            self.inter, self.fastinter, self.downinter, self.rise, self.fall
        )
    }

    fn built_in(name: &str) -> Result<Self, RtoError> {
        let (_, numbers, times) = DEFAULT_PLANS
            .iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(|| unknown(name, &DEFAULT_PLANS.map(|(known, ..)| known)))?;
        Ok(Self {
            name: name.to_owned(),
            ttl: numbers[0],
            loop_wait: numbers[1],
            retry_timeout: numbers[2],
            primary_start_timeout: numbers[3],
            safety_margin: numbers[4],
            inter: times[0].to_owned(),
            fastinter: times[1].to_owned(),
            downinter: times[2].to_owned(),
            rise: numbers[5],
            fall: numbers[6],
        })
    }

    fn read(name: &str, plan: &Value) -> Result<Self, RtoError> {
        let shape = || RtoError::Shape { name: name.to_owned() };
        let values = plan.as_array().filter(|values| values.len() == 10).ok_or_else(shape)?;
        let number = |at: usize, field| {
            values[at].as_u64().filter(|n| *n > 0).ok_or_else(|| RtoError::Value {
                name: name.to_owned(),
                field,
                value: values[at].to_string(),
                expected: "a whole number above 0",
            })
        };
        let time = |at: usize, field| {
            values[at].as_str().and_then(haproxy_time).ok_or_else(|| RtoError::Value {
                name: name.to_owned(),
                field,
                value: values[at].to_string(),
                expected: "a time with its unit, as `2s` or `500ms`",
            })
        };
        Ok(Self {
            name: name.to_owned(),
            ttl: number(0, "ttl")?,
            loop_wait: number(1, "loop_wait")?,
            retry_timeout: number(2, "retry_timeout")?,
            primary_start_timeout: number(3, "primary_start_timeout")?,
            safety_margin: number(4, "safety_margin")?,
            inter: time(5, "inter")?,
            fastinter: time(6, "fastinter")?,
            downinter: time(7, "downinter")?,
            rise: number(8, "rise")?,
            fall: number(9, "fall")?,
        })
    }
}

fn unknown(name: &str, known: &[&str]) -> RtoError {
    let hint = nearest(name, known.iter().copied())
        .map(|word| format!(", did you mean `{word}`?"))
        .unwrap_or_default();
    let known = known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    RtoError::Unknown { name: name.to_owned(), known, hint }
}

/// A time for `HAProxy` from a decimal number with one of its units (configuration manual, 2.5 "Time format").
/// `HAProxy` takes whole numbers only, so a fraction is turned into milliseconds: `0.5s` is `500ms`.
fn haproxy_time(text: &str) -> Option<String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match &text[digits.len()..] {
        "us" => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let Some((whole, fraction)) = digits.split_once('.') else {
        return digits.parse::<u32>().ok().map(|_| text.to_owned());
    };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let number =
        whole.parse::<u32>().ok().map(u64::from)?.checked_mul(scale)? + fraction.parse::<u64>().ok()?;
    let product = number.checked_mul(milliseconds)?;
    (product > 0 && product % scale == 0).then(|| format!("{}ms", product / scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_built_in_plans_hold_their_own_bound() {
        for name in ["fast", "norm", "safe", "wide"] {
            let rto = Rto::choose(&json!(name), &Value::Null).unwrap();
            assert!(rto.ttl >= rto.loop_wait + 2 * rto.retry_timeout, "{name}");
        }
        let norm = Rto::choose(&Value::Null, &json!({})).unwrap();
        assert_eq!((norm.ttl, norm.loop_wait, norm.retry_timeout), (30, 5, 10));
        assert_eq!((norm.primary_start_timeout, norm.safety_margin), (25, 5));
    }

    #[test]
    fn a_plan_of_the_inventory_wins_and_its_fractions_become_milliseconds() {
        let plans = json!({ "lan": [20, 5, 5, 15, 5, "1s", "0.5s", "1.25s", 2, 3] });
        let rto = Rto::choose(&json!("lan"), &plans).unwrap();
        assert_eq!((rto.fastinter.as_str(), rto.downinter.as_str(), rto.rise), ("500ms", "1250ms", 2));
        assert!(rto.server_options().starts_with("inter 1s fastinter 500ms downinter 1250ms rise 2 fall 3 "));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let plans = json!({
            "short": [20, 10, 10, 15, 5, "1s", "1s", "1s", 3, 3],
            "text": [20, 5, "5", 15, 5, "1s", "1s", "1s", 3, 3],
            "unit": [20, 5, 5, 15, 5, "1", "1s", "1s", 3, 3],
            "nine": [20, 5, 5, 15, 5, "1s", "1s", "1s", 3],
        });
        let said = |name: Value, plans: &Value| Rto::choose(&name, plans).unwrap_err().to_string();
        assert_eq!(
            said(json!("short"), &plans),
            "plan `short`: ttl 20 is less than loop_wait 10 + 2 * retry_timeout 10; a leader could lose its key while it still waits for etcd"
        );
        assert_eq!(
            said(json!("text"), &plans),
            "plan `text`: retry_timeout `\"5\"` is not a whole number above 0"
        );
        assert!(said(json!("unit"), &plans).contains("inter `\"1\"` is not a time"));
        assert!(said(json!("nine"), &plans).contains("needs ten values"));
        assert_eq!(
            said(json!("nrom"), &Value::Null),
            "`pg_rto` `nrom` is not in `pg_rto_plan`; it has `fast`, `norm`, `safe`, `wide`, did you mean `norm`?"
        );
        assert!(said(json!(30), &Value::Null).contains("not `30`; seconds"));
        assert!(said(json!("a"), &json!([])).contains("not `[]`"));
    }
}
