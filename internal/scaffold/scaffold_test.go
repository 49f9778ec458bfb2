package scaffold

import (
	"bytes"
	"errors"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

func project(module string) Project {
	return Project{Module: module, Sluice: "v1.2.3", SDK: "v1.8.0"}
}

func TestName(t *testing.T) {
	t.Parallel()
	for module, want := range map[string]string{
		"example.com/acme/weather":                   "weather",
		"example.com/acme/weather/v2":                "weather",
		"gopkg.in/weather.v3":                        "weather",
		"example.com/acme/Weather_Report":            "weather-report",
		"example.com/acme/weather.go":                "weather-go",
		"example.com/acme/3d":                        "mcp-3d",
		"example.com/acme/on":                        "mcp-on",
		"example.com/acme/_":                         "mcp",
		"example.com/" + strings.Repeat("long-", 20): "long-long-long-long-long-long-long-long",
	} {
		if got := Name(module); got != want {
			t.Errorf("Name(%q) = %q, want %q", module, got, want)
		}
	}
}

func TestCheckModule(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"example.com/acme/weather", "example.com/acme/weather/v2", "example.com"} {
		if err := CheckModule(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "weather", "acme/weather", "/tmp/weather", "../weather", "https://example.com/weather", "example.com/a b",
		"example.com/weather/", "example.com/weather@v1", "example.com/weather/v1", "example.com/äpfel", "example.com/a\nb",
		ourModule, ourModule + "/weather",
	} {
		err := CheckModule(bad)
		if err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than a line: %v", bad, err)
		}
	}
}

// A name of the template that is left over would be somebody else's in every project.
func TestRender(t *testing.T) {
	t.Parallel()
	for _, module := range []string{"example.com/acme/weather", "aaa.example/x", "zzz.example/y/v2"} {
		out, err := render(project(module))
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range out {
			for _, trace := range []string{"scaffold", templateName} {
				if bytes.Contains(text, []byte(trace)) {
					t.Errorf("%s: %s is left in %s", module, trace, name)
				}
			}
			// What a rename of the module, which edits Go files and go.mod, would miss.
			if ext := filepath.Ext(name); ext != ".go" && name != "go.mod" && bytes.Contains(text, []byte(module)) {
				t.Errorf("%s names the module path", name)
			}
			if filepath.Ext(name) == ".go" {
				if formatted, err := format.Source(text); err != nil || !bytes.Equal(formatted, text) {
					t.Errorf("%s: %s is not formatted (%v)", module, name, err)
				}
			}
		}
		if !bytes.Contains(out["cmd/server/main.go"], []byte(`"`+module+`/internal/tools"`)) {
			t.Errorf("main.go does not import its own tools:\n%s", out["cmd/server/main.go"])
		}
		if got := modfile.ModulePath(out["go.mod"]); got != module {
			t.Errorf("go.mod is of %q", got)
		}
	}
}

// The files that begin with a dot are the ones that an embed pattern forgets.
func TestRenderIsComplete(t *testing.T) {
	t.Parallel()
	out, err := render(project("example.com/acme/weather"))
	if err != nil {
		t.Fatal(err)
	}
	count := 1 // go.mod
	err = filepath.WalkDir("project", func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			count++
		}
		return err
	})
	if err != nil || count != len(out) {
		t.Errorf("%d files are written, want %d (%v)", len(out), count, err)
	}
	for _, name := range []string{
		".devcontainer/devcontainer.json", ".github/workflows/ci.yml", ".gitignore", ".golangci.yml", ".pre-commit-config.yaml",
		"Dockerfile", "Makefile", "README.md", "cmd/server/testdata/TestContract.golden.json", "deploy/cloudrun.yaml", "go.mod",
	} {
		if len(out[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	p := project("example.com/acme/weather")
	t.Run("new directory", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "a", "b")
		names, err := Write(dir, p, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		if _, err := Write(dir, p, false); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("a second time: %v", err)
		}
		mine, edited := filepath.Join(dir, "mine.txt"), filepath.Join(dir, "README.md")
		for _, name := range []string{mine, edited} {
			if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Write(dir, p, true); err != nil {
			t.Errorf("with force: %v", err)
		}
		if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" {
			t.Errorf("a file that is not the project's did not survive force: %v", err)
		}
		if text, err := os.ReadFile(edited); err != nil || string(text) == "mine" {
			t.Errorf("force did not overwrite: %v", err)
		}
	})
	t.Run("only .git", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, ".git"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Write(dir, p, false); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		t.Parallel()
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Write(name, p, false); err == nil {
			t.Error("written into a file")
		}
	})
	t.Run("a link out of it", func(t *testing.T) {
		t.Parallel()
		dir, outside := t.TempDir(), t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, "cmd")); err != nil {
			t.Fatal(err)
		}
		if _, err := Write(dir, p, true); err == nil {
			t.Error("no error")
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Errorf("%d entries written outside (%v)", len(entries), err)
		}
	})
}

func TestSource(t *testing.T) {
	t.Parallel()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	sdk := []*debug.Module{{Path: sdkModule, Version: "v1.8.0"}}
	installed := &debug.BuildInfo{Deps: sdk, Main: debug.Module{Path: ourModule, Version: "v1.2.3", Sum: "h1:x"}}
	built := &debug.BuildInfo{Deps: sdk, Main: debug.Module{Path: ourModule, Version: "v1.2.4-0.20261122143013-96c88ca211ec"}}
	for _, tt := range []struct {
		name          string
		info          *debug.BuildInfo
		replace, from string
		want          Project
		fails         bool
	}{
		{"installed", installed, "", checkout, Project{Sluice: "v1.2.3", SDK: "v1.8.0"}, false},
		{"installed, replaced", installed, checkout, "/", Project{Sluice: unreleased, SDK: "v1.8.0", Replace: checkout}, false},
		{"built, in its checkout", built, "", filepath.Join(checkout, "internal", "scaffold"), Project{Sluice: unreleased, SDK: "v1.8.0", Replace: checkout}, false},
		{"built, elsewhere", built, "", t.TempDir(), Project{}, true},
		{"built, replaced by something else", built, t.TempDir(), checkout, Project{}, true},
		{"no SDK", &debug.BuildInfo{}, checkout, "", Project{}, true},
	} {
		var got Project
		err := got.Source(tt.info, tt.replace, tt.from)
		if tt.fails != (err != nil) || err == nil && got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v, error %v", tt.name, got, err, tt.want, tt.fails)
		}
	}
}

// The linter of a new project is the one that this repository's code, the project's among it, is held to.
func TestLinterVersion(t *testing.T) {
	t.Parallel()
	const linter = "github.com/golangci/golangci-lint/v2"
	text, err := os.ReadFile("../../tools/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	tools, err := modfile.Parse("tools/go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tools.Require, func(r *modfile.Require) bool { return r.Mod.Path == linter })
	if i < 0 {
		t.Fatalf("tools/go.mod does not require %s", linter)
	}
	makefile, err := files.ReadFile("project/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if want := linter + "/cmd/golangci-lint@" + tools.Require[i].Mod.Version + "\n"; !strings.Contains(string(makefile), want) {
		t.Errorf("the project's Makefile does not run %s", want)
	}
	for _, name := range []string{"../../go.mod"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := modfile.ParseLax(name, text, nil)
		if err != nil || mod.Go == nil || strings.TrimSuffix(mod.Go.Version, ".0") != goVersion {
			t.Errorf("%s is not of Go %s as new projects are (%v)", name, goVersion, err)
		}
	}
}

// What the deploy files and the Dockerfile say to the server, it must understand.
func TestDeployFiles(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md") // CI holds it to the server's flags and variables
	if err != nil {
		t.Fatal(err)
	}
	out, err := render(project("example.com/acme/weather"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range out {
		for _, variable := range regexp.MustCompile(`\b(MCP|LOG)_[A-Z_]+\b`).FindAllString(string(text), -1) {
			if !strings.Contains(string(readme), "`"+variable+"`") {
				t.Errorf("%s names %s, which the server does not know", name, variable)
			}
		}
	}
	for name, lines := range map[string][]string{
		"Dockerfile":           {"EXPOSE 8000", "./cmd/server", `"--healthcheck"`, "USER 65532:65532"},
		"deploy/cloudrun.yaml": {"containerPort: 8000", "path: /readyz", "path: /healthz", "image: IMAGE\n"},
		"deploy/kubernetes/deployment.yaml": {
			"containerPort: 8000", "path: /readyz", "path: /healthz", "image: weather\n",
			"enableServiceLinks: false", "runAsUser: 65532", // as docs/kubernetes.md says
		},
		"deploy/kubernetes/service.yaml":  {"targetPort: http"},
		"Makefile":                        {"sed 's|image: IMAGE|", "./cmd/server"},
		".devcontainer/devcontainer.json": {"[8000]"},
	} {
		for _, line := range lines {
			if !strings.Contains(string(out[name]), line) {
				t.Errorf("%s does not have %q", name, line)
			}
		}
	}
}
