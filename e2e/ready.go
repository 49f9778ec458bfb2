package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// errExited: the server ended before it was ready.
var errExited = errors.New("exited before it was ready")

// awaitReady returns when the server takes requests. It asks /readyz; a server that
// has no such path counts as ready when its MCP endpoint answers.
func awaitReady(base, path string, within time.Duration, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := probe(ctx, client, base, path)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // the end of the time says less than what was before
			last = err
		}
		select {
		case <-exited:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", within, last)
		case <-tick.C:
		}
	}
}

func probe(ctx context.Context, client *http.Client, base, path string) error {
	switch code, err := status(ctx, client, base+"/readyz"); {
	case err != nil:
		return err
	case code == http.StatusOK:
		return nil
	case code >= 500:
		return fmt.Errorf("GET /readyz answered %d", code)
	}
	// Any answer of the endpoint's own will do: without a session, 400 and 405 are right answers to GET.
	code, err := status(ctx, client, base+path)
	if err == nil && (code == http.StatusNotFound || code >= 500) {
		err = fmt.Errorf("GET %s answered %d (is the endpoint elsewhere? see e2e.Path)", path, code)
	}
	return err
}

func status(ctx context.Context, client *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
