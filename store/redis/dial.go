package redis

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// A dialer remembers its open connections, so that they can be dropped when they lead to the wrong server.
type dialer struct {
	mu    sync.Mutex
	conns map[*conn]struct{}
}

type conn struct {
	net.Conn
	dialer *dialer
}

func newDialer() *dialer { return &dialer{conns: make(map[*conn]struct{})} }

func (d *dialer) dial(ctx context.Context, addr string, nd *net.Dialer, config *tls.Config) (net.Conn, error) {
	dial := nd.DialContext
	if config != nil {
		dial = (&tls.Dialer{NetDialer: nd, Config: config}).DialContext
	}
	nc, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, dialer: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c] = struct{}{}
	return c, nil
}

func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}

// drop closes all connections; the next call dials anew.
func (d *dialer) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.Conn.Close()
	}
	clear(d.conns)
}
