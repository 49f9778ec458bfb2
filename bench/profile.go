package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// profileFor is how long a server is watched.
const profileFor = 8 * time.Second

// profile loads the servers as the comparison does, and writes a CPU profile and the allocations of each to dir.
func (b *bench) profile(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, s := range b.servers {
		if s.node() {
			continue
		}
		for _, era := range s.eras {
			p, err := b.start(ctx, s)
			if err != nil {
				return err
			}
			defer p.stop()
			l, err := newLoad(p, era)
			if err != nil {
				return err
			}
			defer l.close()
			if _, err := l.run(time.Second); err != nil {
				return err
			}
			name := filepath.Join(dir, fmt.Sprintf("%s-%s-%s", s.program, s.mode, era))
			var group errgroup.Group
			group.Go(func() error {
				return p.save(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(profileFor.Seconds())), name+".cpu")
			})
			if _, err := l.run(profileFor + time.Second); err != nil {
				return err
			}
			if err := group.Wait(); err != nil {
				return err
			}
			if err := p.save(ctx, "/debug/pprof/allocs", name+".allocs"); err != nil {
				return err
			}
			p.stop()
		}
	}
	return nil
}

// save writes what the process answers at path to a file.
func (p *process) save(ctx context.Context, path, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(file) //nolint:gosec // where the caller wants it
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
