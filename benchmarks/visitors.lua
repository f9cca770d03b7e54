-- The load: each request comes from one of many visitors, as the proxy in front would report it.
-- wrk ... -- VISITORS STRIDE ENCODING: visitor n has the address 10.0.0.0 + n * STRIDE, and accepts the encoding.
-- With 0 visitors each request has an address of its own, as good as always one that never came.
local requests = {}
local encoding

function init(arguments)
  local visitors, stride = tonumber(arguments[1]), tonumber(arguments[2])
  encoding = arguments[3]
  local seconds, microseconds = os.time(), os.clock() * 1e6
  math.randomseed(seconds * 1000 + microseconds % 1000)
  for n = 1, visitors do
    local number = (n - 1) * stride
    requests[n] = from(string.format('10.%d.%d.%d', number / 65536 % 256, number / 256 % 256, number % 256))
  end
end

function from(address)
  return wrk.format('GET', '/', {
    ['Accept-Encoding'] = encoding,
    ['Host'] = '127.0.0.1',
    ['User-Agent'] = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    ['X-Forwarded-For'] = address,
  })
end

function request()
  if #requests > 0 then
    return requests[math.random(#requests)]
  end
  local random = math.random
  return from(string.format('%d.%d.%d.%d', random(11, 126), random(0, 255), random(0, 255), random(0, 255)))
end
