//! Invokes each function's binary with its sample event from `infra/events`, through AWS's Runtime Interface Emulator: with Lambda's own runtime
//! protocol, and with events as the triggers send them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Value, World, json, stack_test, until};

/// A function that runs in the emulator. Dropping it ends both.
struct Invocable {
    process: Child,
    port: u16,
}

impl Drop for Invocable {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.process.id().cast_signed()), nix::sys::signal::Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

impl Invocable {
    async fn start(world: &World, emulator: &Path, binary: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let name = &world.stack.functions()[binary];
        let configuration = world.lambda.get_function_configuration().function_name(name).send().await.unwrap();
        // Both listeners stay open until both ports are known, so that the ports differ.
        let free = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, runtime_port] = free.map(|listener| listener.local_addr().unwrap().port());
        let mut command = Command::new(emulator);
        command.env_clear().process_group(0).envs(configuration.environment.unwrap().variables.unwrap());
        command.envs(world.stack.info().aws_environment()).env("PATH", "/usr/bin:/bin");
        command.env("AWS_LAMBDA_FUNCTION_NAME", name).env("AWS_LAMBDA_FUNCTION_TIMEOUT", configuration.timeout.unwrap().to_string());
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256").args(["--log-level", "error"]);
        command.args(["--runtime-interface-emulator-address", &format!("127.0.0.1:{port}")]);
        command.args(["--runtime-api-address", &format!("127.0.0.1:{runtime_port}")]);
        command.arg(world.stack.state_dir().join("bin").join(binary));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the emulator", Duration::from_secs(20), || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
        Self { process, port }
    }

    /// Returns the response of the function, or the error of the emulator if it could not start the function.
    async fn invoke(&self, world: &World, event: &str) -> Result<Value, String> {
        let address = format!("http://127.0.0.1:{}/2015-03-31/functions/function/invocations", self.port);
        let answer = world.stack.http().post(address).body(event.to_owned()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if status == 200 { Ok(text.parse().unwrap()) } else { Err(format!("{status}: {text}")) }
    }
}

/// Invokes a function with its event. Another process may have taken a port that was free when it was chosen; then other ports are tried. A function
/// that does not start fails with all of them.
async fn invoked(world: &World, emulator: &Path, binary: &str, event: &str) -> Value {
    let mut failures = Vec::new();
    while failures.len() < 3 {
        match Invocable::start(world, emulator, binary).await.invoke(world, event).await {
            Ok(answer) => return answer,
            Err(failure) => failures.push(failure),
        }
    }
    panic!("{binary} does not start: {failures:?}")
}

/// Returns whether a response is the expected one.
fn is_right(binary: &str, answer: &Value) -> bool {
    let body = || answer["body"].as_str().and_then(|body| body.parse::<Value>().ok()).unwrap_or_default();
    let says = |text| answer["errorMessage"].as_str().is_some_and(|message| message.contains(text));
    match binary {
        "health" => answer["statusCode"] == 200 && body()["data"]["status"].is_string(),
        "get_pricing" => answer["statusCode"] == 200 && body()["data"].is_object(),
        "stripe_webhook" => answer["statusCode"] == 400 && body()["code"] == "SIGNATURE_INVALID",
        "stripe_events" | "bulk_groups" | "fail_bulk_groups" => *answer == json!({ "batchItemFailures": [] }),
        "migrate" => answer["applied"] == json!([]) && answer["passwords_set"] == json!([]),
        // The sample's account does not exist: nothing can be charged to it, no task finds its run, and no scrape can be recorded.
        "admit" | "compensate" => answer["errorType"] == "Terminal" && says("analyses_account_id_fkey"),
        "fetch" | "analyze" | "save" => answer["errorType"] == "Terminal" && says("never admitted"),
        "refresh_profile" => says("ai_usage_logs_account_id_fkey"),
        "openapi" => answer["statusCode"] == 200 && body()["openapi"] == "3.1.1",
        "report_usage" | "clean_up" | "renew_subscriptions" | "end_stuck_runs" => answer["schedule"] == binary && answer["dry_run"] == true,
        // The endpoints for users reject the sample's token.
        _ => answer["statusCode"] == 401 && body()["code"] == "INVALID_TOKEN",
    }
}

#[stack_test]
async fn every_sample_event_is_understood_by_its_function(world: Arc<World>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let emulator = local::rie::runtime_interface_emulator(root).await.unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(root.join("infra/events")).unwrap() {
        let path = file.unwrap().path();
        let binary = path.file_stem().unwrap().to_str().unwrap();
        let answer = invoked(&world, &emulator, binary, &std::fs::read_to_string(&path).unwrap()).await;
        assert!(is_right(binary, &answer), "{binary}: {answer}");
        seen += 1;
    }
    assert_eq!(seen, world.stack.functions().len(), "every function has a sample event");
}
