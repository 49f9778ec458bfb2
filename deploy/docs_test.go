package deploy_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var pages = []string{"container", "cloud-run", "kubernetes", "proxies", "operations", "observability"}

// TestPagesNameWhatExists holds variables, files, make targets and packages in the pages against the repository.
func TestPagesNameWhatExists(t *testing.T) {
	t.Parallel()
	makefile := string(read(t, "../Makefile"))
	for _, page := range pages {
		text := string(read(t, "../docs/"+page+".md"))
		for _, name := range regexp.MustCompile(`\b(?:MCP|LOG)_[A-Z_]+\b`).FindAllString(text, -1) {
			if !known(name) && !strings.Contains(string(read(t, template)), "${"+name+"}") {
				t.Errorf("%s.md: the program does not know %s", page, name)
			}
		}
		for _, path := range regexp.MustCompile(`(?:\./)?\b(?:deploy|cmd|docs)/[\w./-]*\w`).FindAllString(text, -1) {
			if strings.HasSuffix(path, "/.env") { // made by a command of the page
				continue
			}
			if matches, err := filepath.Glob(filepath.Join("..", path)); err != nil || len(matches) == 0 {
				t.Errorf("%s.md: there is no %s", page, path)
			}
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
			if matches, err := filepath.Glob(filepath.Join("../docs", m[1])); err != nil || len(matches) == 0 {
				t.Errorf("%s.md: a link to %s, which is not there", page, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`make ([a-z-]+)`").FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s.md: no make target %s", page, m[1])
			}
		}
	}
}

// TestSecretsOfThePages holds the commands that make secrets against the manifests that read them.
func TestSecretsOfThePages(t *testing.T) {
	t.Parallel()
	for page, c := range map[string]struct{ manifests, command, reference string }{
		"kubernetes": {"kubernetes/base/*.yaml", `--from-literal=([a-z-]+)=`, `secretKeyRef:\s+name: mcp-server\s+key: (\S+)`},
		"cloud-run":  {"cloudrun/service.yaml", `gcloud secrets create (\S+)`, `secretKeyRef:\s+name: (\S+)`},
	} {
		made, used := map[string]bool{}, map[string]bool{}
		for _, m := range regexp.MustCompile(c.command).FindAllStringSubmatch(string(read(t, "../docs/"+page+".md")), -1) {
			made[m[1]] = true
		}
		files, err := filepath.Glob(c.manifests)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, m := range regexp.MustCompile(c.reference).FindAllStringSubmatch(string(read(t, file)), -1) {
				used[m[1]] = true
				if !made[m[1]] {
					t.Errorf("%s.md does not make the secret %s", page, m[1])
				}
			}
		}
		if len(used) == 0 || len(made) != len(used) {
			t.Errorf("%s.md makes %v, and the manifests read %v", page, made, used)
		}
	}
}

// TestOperationsQuotesTheProgram looks for each log message and each code of the page in the sources.
func TestOperationsQuotesTheProgram(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case "bench", "deploy", "e2e", "node_modules", "testdata":
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			sources.Write(read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page := string(read(t, "../docs/operations.md"))
	levels := map[string]string{"info": "Info", "warn": "Warn", "error": "Error"}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (info|warn|error) \\|").FindAllStringSubmatch(page, -1)
	if len(rows) < 10 {
		t.Fatalf("%d messages found in the page", len(rows))
	}
	for _, row := range rows {
		if want := levels[row[2]] + `("` + row[1] + `"`; !strings.Contains(sources.String(), want) {
			t.Errorf("nobody logs %q with level %s", row[1], row[2])
		}
	}
	codes := regexp.MustCompile(`\| (-\d{5}) \|`).FindAllStringSubmatch(page, -1)
	if len(codes) == 0 {
		t.Fatal("no codes found in the page")
	}
	for _, code := range codes {
		if !regexp.MustCompile(`[cC]ode\w+ += ` + code[1] + `\b`).MatchString(sources.String()) {
			t.Errorf("no code %s", code[1])
		}
	}
}
