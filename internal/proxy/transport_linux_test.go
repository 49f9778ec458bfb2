package proxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
)

// A connection of HTTP/1.1 has no pings. The kernel gives it up in seconds, whether something is under way or not.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	transport := NewTransport()
	defer transport.CloseIdleConnections()
	conn, err := transport.DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		get := func(option int) int {
			n, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option)
			if err != nil {
				t.Error(err)
			}
			return n
		}
		if ms := get(tcpUserTimeout); ms != int(unanswered.Milliseconds()) {
			t.Errorf("what is sent may stay unanswered for %d ms", ms)
		}
		quiet := get(syscall.TCP_KEEPIDLE) + get(syscall.TCP_KEEPINTVL)*get(syscall.TCP_KEEPCNT)
		if quiet > 30 {
			t.Errorf("a quiet connection is held for alive for %d s", quiet)
		}
	})
}
