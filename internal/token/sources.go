package token

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// maxToken bounds what is read from a source, in bytes.
const maxToken = 64 << 10

// Command runs a command line in the shell and takes what it prints for the token.
func Command(line string) Source {
	return func(ctx context.Context) (string, error) {
		shell := []string{"sh", "-c"}
		if runtime.GOOS == "windows" {
			shell = []string{"cmd", "/C"}
		}
		cmd := exec.CommandContext(ctx, shell[0], shell[1], line) //nolint:gosec // running what the user says is the purpose
		cmd.WaitDelay = time.Second                               // a child of the shell may hold its output open
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			if said := strings.TrimSpace(stderr.String()); said != "" {
				err = fmt.Errorf("%w: %s", err, said)
			}
			return "", fmt.Errorf("token command: %w", err)
		}
		token, err := checked(string(out))
		if err != nil {
			return "", fmt.Errorf("token command: %w", err)
		}
		return token, nil
	}
}

// File reads the token from a file each time one is needed, since whoever writes such files replaces them.
func File(name string) Source {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(name) //nolint:gosec // the user names it
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		token, err := checked(string(text))
		if err != nil {
			return "", fmt.Errorf("token file %s: %w", name, err)
		}
		return token, nil
	}
}

// metadataTimeout bounds a request to the metadata server, which is on the same machine or nowhere.
const metadataTimeout = 5 * time.Second

// Metadata asks the metadata server of Google Cloud for an identity token with this audience. The variable
// GCE_METADATA_HOST (HOST:PORT) names another server, as it does for Google's own programs.
func Metadata(audience string) Source {
	// No proxy: the address means this machine's own metadata server, and the answer is a secret.
	client := &http.Client{Transport: &http.Transport{}, Timeout: metadataTimeout}
	return func(ctx context.Context) (string, error) {
		host := cmp.Or(os.Getenv("GCE_METADATA_HOST"), "metadata.google.internal")
		u := url.URL{
			Scheme: "http", Host: host, Path: "/computeMetadata/v1/instance/service-accounts/default/identity",
			RawQuery: url.Values{"audience": {audience}, "format": {"full"}}.Encode(),
		}
		token, err := askMetadata(ctx, client, u.String())
		if err != nil {
			return "", fmt.Errorf("metadata server: %w", err)
		}
		return token, nil
	}
}

func askMetadata(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Metadata-Flavor", "Google")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return "", err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("HTTP %s: %s", resp.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	case resp.Header.Get("Metadata-Flavor") != "Google": // a captive portal, or anybody else who answers to every name
		return "", errors.New("this is not one: its answer has no Metadata-Flavor")
	}
	return checked(string(body))
}
