-- What wrk sends, told by its environment:
--   VF_METHOD         GET or POST
--   VF_PATHS          a file with a path a line; sent one after the other, beginning anywhere
--   VF_AUTHORIZATION  a file with the header's line
--   VF_BODY           a body in which {n} is the request's number; none for GET
-- and, when it is done, one line for the caller: RESULT and what came of it as JSON.

local function lines(name)
  local all = {}
  for line in io.lines(os.getenv(name)) do all[#all + 1] = line end
  return all
end

local method = os.getenv("VF_METHOD")
local paths = lines("VF_PATHS")
local body = os.getenv("VF_BODY")
local name, value = lines("VF_AUTHORIZATION")[1]:match("^(%S+): (.+)$")
local headers = { [name] = value, ["Content-Type"] = "application/json" }

math.randomseed(os.time())
local at = math.random(#paths)
local numbered = 0

-- Nothing of a request without a body changes: they are made once.
local ready = {}
function init() -- before it the host is not known
  if body then return end
  for n, path in ipairs(paths) do ready[n] = wrk.format(method, path, headers) end
end

function request()
  at = at % #paths + 1
  if ready[at] then return ready[at] end
  numbered = numbered + 1
  return wrk.format(method, paths[at], headers, (body:gsub("{n}", tostring(numbered))))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "micros": %d, "bytes": %d, "refused": %d, "broken": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
