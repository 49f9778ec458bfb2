package proxy

import (
	"syscall"
	"time"
)

// unanswered is how long the other side may leave what was sent without a sign of having got it. Keep-alive probes do not
// help there: none are sent while something is under way.
const unanswered = 20 * time.Second

// tcpUserTimeout is TCP_USER_TIMEOUT (RFC 5482), which package syscall does not name.
const tcpUserTimeout = 18

// boundUnanswered lets the kernel give up a connection after that time.
func boundUnanswered(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unanswered.Milliseconds())) // slower without
	})
}
