//! Web pages that are open in a browser on the developer's machine. None may operate the local AWS or the sandbox's controls.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use reqwest::{Client, Method, RequestBuilder};

use crate::harness::{World, stack_test};

/// What a page can send without a preflight request, with the headers that its browser adds.
fn simple(http: &Client, method: Method, url: &str, origin: Option<&str>) -> RequestBuilder {
    let request = http.request(method, url).header("sec-fetch-site", "cross-site");
    origin.into_iter().fold(request, |request, origin| request.header("origin", origin))
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[stack_test]
async fn a_page_reaches_neither_the_emulator_nor_the_controls(world: Arc<World>) {
    let info = world.stack.info();
    let function = format!("{}/2015-03-31/functions", info.aws_endpoint);
    let controls = format!("{}/_control", info.sandbox);
    for origin in [None, Some("https://evil.example"), Some("null"), Some("http://127.0.0.1:1")] {
        for url in [info.aws_endpoint.as_str(), &function, &format!("{}/_oslira/requests", info.aws_endpoint), &format!("{controls}/calls")]
        {
            assert_eq!(status(simple(&world.http, Method::GET, url, origin)).await, 403, "{url} {origin:?}");
        }
        for (url, body) in [(&info.aws_endpoint, "Action=ListUsers&Version=2010-05-08"), (&format!("{controls}/reset"), "{}")] {
            let form = simple(&world.http, Method::POST, url, origin).header("content-type", "text/plain").body(body);
            assert_eq!(status(form).await, 403, "{url} {origin:?}");
        }
    }
}

/// DNS rebinding: the page's own name resolves to 127.0.0.1, so its browser takes the stack for the page's own server.
#[stack_test]
async fn a_page_that_rebinds_its_name_reaches_nothing(world: Arc<World>) {
    let info = world.stack.info();
    for url in [world.url("/health"), format!("{}/_ministack/health", info.aws_endpoint), format!("{}/health", info.sandbox)] {
        for host in ["evil.example", "evil.example:4566", "127.0.0.1.evil.example", "evillocalhost"] {
            assert_eq!(status(world.http.get(&url).header("host", host)).await, 403, "{url} {host}");
        }
        assert_eq!(status(world.http.get(&url)).await, 200, "{url}");
    }
}

/// Front ends call the API from pages: the API's own rules decide which.
#[stack_test]
async fn a_page_reaches_the_routes_of_the_api(world: Arc<World>) {
    let request = simple(&world.http, Method::GET, &world.url("/health"), Some("http://localhost:5173"));
    assert_eq!(status(request).await, 200);
}

/// Another program on the machine: it can send what it likes, but does not know the key of this start.
#[stack_test]
async fn a_program_without_the_key_reaches_nothing(world: Arc<World>) {
    let endpoint = &world.stack.info().aws_endpoint;
    let signed =
        |key: &str| format!("AWS4-HMAC-SHA256 Credential={key}/20260101/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0");
    for key in ["", "test", "000000000000", "AKIAIOSFODNN7EXAMPLE"] {
        for (method, path, body) in [(Method::GET, "/2015-03-31/functions", ""), (Method::POST, "/", "Action=ListUsers&Version=2010-05-08")]
        {
            let request = world.http.request(method.clone(), format!("{endpoint}{path}")).header("authorization", signed(key)).body(body);
            assert_eq!(status(request).await, 403, "{method} {path} {key}");
        }
        let presigned = format!("{endpoint}/bucket/key?X-Amz-Credential={key}%2F20260101%2Feu-west-1%2Fs3%2Faws4_request");
        assert!([400, 403].contains(&status(world.http.get(presigned)).await), "{key}");
    }
    assert_eq!(status(world.http.get(format!("{endpoint}/2015-03-31/functions"))).await, 403);
    // Paths that MiniStack answers as its own or as any service, with a key that it takes for the root user's and one of no start.
    for path in [
        "_aws/execute-api/x",
        "_aws/execute-api/x/y",
        "_ministack/healthz",
        "_oslira/requests/x",
        "_ministack/cfn-response/x",
        "_ministack/reset",
    ] {
        for key in ["test", "AKIAIOSFODNN7EXAMPLE"] {
            let request = world.http.post(format!("{endpoint}/{path}")).header("x-amz-target", "secretsmanager.GetSecretValue");
            let body = r#"{"SecretId":"oslira/local/stripe-webhook"}"#;
            assert_eq!(status(request.header("authorization", signed(key)).body(body)).await, 403, "{path} {key}");
        }
    }
}

/// Below the API's own prefix, what is not a route of the API is not for pages either.
#[stack_test]
async fn a_page_cannot_leave_the_api(world: Arc<World>) {
    let endpoint = &world.stack.info().aws_endpoint;
    let query = "X-Amz-Credential=test%2F20260101%2Feu-west-1%2Fsqs%2Faws4_request";
    for path in ["x", "x/y", "oslira", "oslira/$default/@connections/x", "oslira/$default/../../../x"] {
        let url = format!("{endpoint}/_aws/execute-api/{path}?{query}");
        let form = simple(&world.http, Method::POST, &url, Some("https://evil.example")).body("Action=ListQueues&Version=2012-11-05");
        assert_eq!(status(form).await, 403, "{path}");
    }
}

/// The ports by which functions receive their events.
#[stack_test]
async fn a_page_receives_no_event_of_a_function(world: Arc<World>) {
    assert_eq!(status(world.http.get(world.url("/health"))).await, 200);
    let processes = local::function_processes(world.stack.state_dir());
    let address = processes.iter().find_map(|process| {
        let variables = std::fs::read(format!("/proc/{}/environ", process.id)).ok()?;
        let text = String::from_utf8_lossy(&variables).into_owned();
        text.split('\0').find_map(|variable| variable.strip_prefix("AWS_LAMBDA_RUNTIME_API=")).map(ToOwned::to_owned)
    });
    let next = format!("http://{}/2018-06-01/runtime/invocation/next", address.expect("a running function"));
    assert_eq!(status(simple(&world.http, Method::GET, &next, None)).await, 403);
    assert_eq!(status(simple(&world.http, Method::GET, &next, Some("https://evil.example"))).await, 403);
    assert_eq!(status(world.http.get(&next).header("host", "evil.example")).await, 403);
}

/// In a container everything else runs as root. A checkout that other accounts cannot reach leaves no choice.
#[stack_test]
async fn functions_do_not_run_as_root(world: Arc<World>) {
    let is_open = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    if !world.stack.state_dir().ancestors().all(is_open) {
        return;
    }
    assert_eq!(status(world.http.get(world.url("/health"))).await, 200);
    let processes = local::function_processes(world.stack.state_dir());
    assert!(!processes.is_empty());
    for process in processes {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id)).unwrap_or_default();
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().next());
        assert_ne!(user, Some("0"), "{process:?}");
    }
}
