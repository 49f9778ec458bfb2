package deploy_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// A samTemplate has the parts of deploy/lambda/template.yaml, decoded strictly. The short forms of intrinsic functions lose
// their tags: "!Ref StoreUrl" reads StoreUrl.
type samTemplate struct {
	AWSTemplateFormatVersion, Transform, Description string
	Parameters                                       map[string]struct {
		Type, Default, Description string
		AllowedValues              []string
		NoEcho                     bool
	}
	Conditions map[string]any
	Resources  map[string]struct {
		Type       string
		Metadata   struct{ BuildMethod string }
		Properties struct {
			CodeURI, Runtime, Handler string // the decoder does not mind case
			Architectures             []string
			Timeout, MemorySize       int
			Environment               struct{ Variables map[string]string }
			VpcConfig                 []any
			FunctionURLConfig         struct{ AuthType, InvokeMode string }
		}
	}
	Outputs map[string]struct{ Description, Value string }
}

func TestLambdaTemplate(t *testing.T) {
	t.Parallel()
	var template samTemplate
	if err := yaml.UnmarshalStrict(read(t, "lambda/template.yaml"), &template); err != nil {
		t.Fatal(err)
	}
	if template.Transform != "AWS::Serverless-2016-10-31" || len(template.Resources) != 1 {
		t.Fatalf("transform %q, %d resources", template.Transform, len(template.Resources))
	}
	name := "McpServer" // the make target is called after it
	f, ok := template.Resources[name]
	if !ok || f.Type != "AWS::Serverless::Function" || f.Metadata.BuildMethod != "makefile" {
		t.Fatalf("%s: %+v", name, f)
	}
	p := f.Properties
	for what, pair := range map[string][2]string{
		"runtime":                 {p.Runtime, "provided.al2023"},
		"handler":                 {p.Handler, "bootstrap"},
		"invoke mode":             {p.FunctionURLConfig.InvokeMode, "RESPONSE_STREAM"},
		"auth type":               {p.FunctionURLConfig.AuthType, "UrlAuth"},
		"who may call by default": {template.Parameters["UrlAuth"].Default, "AWS_IAM"},
		"endpoint":                {template.Outputs["Endpoint"].Value, "${" + name + "Url.FunctionUrl}" + strings.TrimPrefix(settings["MCP_PATH"], "/")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s %q, want %q", what, pair[0], pair[1])
		}
	}
	if p.Timeout < 10 || p.Timeout > 900 || p.MemorySize < 128 || p.MemorySize > 10240 {
		t.Errorf("timeout %d s, memory %d MB", p.Timeout, p.MemorySize)
	}
	variables := p.Environment.Variables
	for variable, value := range variables {
		if !known(variable) {
			t.Errorf("variable %s: the program does not know it", variable)
		}
		if parameter, ok := template.Parameters[value]; strings.HasPrefix(variable, "MCP_") && (!ok || parameter.Default != "") {
			t.Errorf("variable %s is %q, want a parameter that is empty by default", variable, value)
		}
	}
	for _, secret := range []string{"MCP_STORE_URL", "MCP_STATE_KEYS"} {
		if !template.Parameters[variables[secret]].NoEcho {
			t.Errorf("%s can be read in the console", secret)
		}
	}
	for name, parameter := range template.Parameters {
		if !strings.Contains(string(read(t, "../docs/lambda.md")), "`"+name+"`") {
			t.Errorf("docs/lambda.md does not name the parameter %s", name)
		}
		if parameter.Description == "" {
			t.Errorf("parameter %s: no description", name)
		}
	}
	if text := string(read(t, "lambda/template.yaml")); strings.Contains(text, "github.com") {
		t.Error("it names a module path, which nobody renames in a copy")
	}
}

// The target that sam build calls must leave one static program for the function's architecture, by the handler's name.
func TestLambdaBuild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command("make", "build-McpServer", "ARTIFACTS_DIR="+dir)
	cmd.Dir = ".." // CodeUri
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "bootstrap" {
		t.Fatalf("it made %v, %v", entries, err)
	}
	program, err := elf.Open(filepath.Join(dir, "bootstrap"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if program.Machine != elf.EM_AARCH64 || !strings.Contains(string(read(t, "lambda/template.yaml")), "Architectures: [arm64]") {
		t.Errorf("the program is for %v", program.Machine)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the program needs libraries that Lambda may not have")
		}
	}
}
