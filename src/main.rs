//! Throw-away: `pgctl NODES(name=addr,..) IMAGE VERB [ARGS]`
use pgctl::sandbox::*;
#[allow(clippy::print_stdout, clippy::print_stderr)]
fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let lab = if a[0] == "all" {
        Lab::all()?
    } else {
        Lab::new(
            a[0].split(',')
                .map(|n| {
                    let (n, a) = n.split_once('=').unwrap();
                    LabNode { name: n.into(), address: a.into() }
                })
                .collect(),
        )?
    };
    let t = std::time::Instant::now();
    match a[2].as_str() {
        "up" => println!("{:#?}", lab.up(&a[1], &|s| eprintln!("{s}"))?),
        "down" => println!("{:?}", lab.down()?),
        "list" => println!("{}", serde_json::to_string_pretty(&lab.list()?)?),
        "stop" => println!("{:?}", lab.stop(&a[3..])?),
        "start" => println!("{:?}", lab.start(&a[3..])?),
        "exec" => std::process::exit(lab.exec(&a[3], &a[4..])?.into()),
        _ => anyhow::bail!("?"),
    }
    eprintln!("{:.3} s", t.elapsed().as_secs_f64());
    Ok(())
}
