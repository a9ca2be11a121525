-- For wrk: sends the requests of the file in BENCH_REQUESTS (method TAB path TAB If-None-Exist TAB body), in order, round and round.
-- BENCH_TOKEN, when it is there, is the access token of all.
-- @NUMBER@ in any of them becomes a running number that starts after BENCH_SEED. Prints one line of counts.
local requests, position, number = {}, 0, tonumber(os.getenv("BENCH_SEED") or "0")

local token = os.getenv("BENCH_TOKEN") or ""

local function format(method, path, criteria, body)
  local headers = { ["Accept"] = "application/fhir+json" }
  if token ~= "" then headers["Authorization"] = "Bearer " .. token end
  if criteria ~= "" then headers["If-None-Exist"] = criteria end
  if body ~= "" then headers["Content-Type"] = "application/fhir+json" end
  return wrk.format(method, path, headers, body ~= "" and body or nil)
end

function init(arguments)
  for line in io.lines(os.getenv("BENCH_REQUESTS")) do
    local method, path, criteria, body = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$")
    local changing = line:find("@NUMBER@", 1, true)
    requests[#requests + 1] = changing and { method, path, criteria, body } or format(method, path, criteria, body)
  end
end

function request()
  position = position + 1
  local chosen = requests[(position - 1) % #requests + 1]
  if type(chosen) == "string" then return chosen end
  number = number + 1
  local text = tostring(number)
  local function numbered(part) return (part:gsub("@NUMBER@", text)) end
  return format(chosen[1], numbered(chosen[2]), numbered(chosen[3]), numbered(chosen[4]))
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format('\n@@{"requests":%d,"seconds":%.6f,"bad":%d,"broken":%d,"p50":%.3f,"p95":%.3f,"p99":%.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
