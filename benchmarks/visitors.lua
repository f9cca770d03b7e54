-- The load: each request comes from one of many visitors, as the proxy in front would report it.
-- wrk ... -- VISITORS STRIDE ENCODING: visitor n has the address 10.0.0.0 + n * STRIDE, and accepts the encoding.
local requests = {}

function init(arguments)
  local visitors, stride = tonumber(arguments[1]), tonumber(arguments[2])
  for n = 1, visitors do
    local number = (n - 1) * stride
    local address = string.format('10.%d.%d.%d', number / 65536 % 256, number / 256 % 256, number % 256)
    requests[n] = wrk.format('GET', '/', {
      ['Accept-Encoding'] = arguments[3],
      ['Host'] = '127.0.0.1',
      ['User-Agent'] = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
      ['X-Forwarded-For'] = address,
    })
  end
end

function request()
  return requests[math.random(#requests)]
end
