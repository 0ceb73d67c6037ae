-- Cycles over prepared request bodies, one a line of the file BENCH_BODIES, and prints what was seen as one line of JSON.
-- Credentials come by the environment, for command lines can be read by everyone on the machine.

local prepared = {}
local last = 0

function init(_)
  wrk.headers["Content-Type"] = "application/json"
  local token = os.getenv("BENCH_TOKEN")
  if token then
    wrk.headers["Authorization"] = "Bearer " .. token
  end
  for body in io.lines(os.getenv("BENCH_BODIES")) do
    local method = os.getenv("BENCH_METHOD")
    prepared[#prepared + 1] = wrk.format(method, os.getenv("BENCH_PATH"), nil, method ~= "GET" and body or nil)
  end
end

function request()
  last = last % #prepared + 1
  return prepared[last]
end

function done(summary, latency, _)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '\nBENCH {"requests": %d, "duration_us": %d, "bytes": %d, "failed": %d, "p50_us": %d, "p99_us": %d, "max_us": %d}\n',
    summary.requests, summary.duration, summary.bytes, failed, latency:percentile(50), latency:percentile(99), latency.max))
end
