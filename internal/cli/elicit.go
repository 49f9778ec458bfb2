package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// An asker passes a server's questions on to the person at the terminal. Where there is none it declines them, and says so.
type asker struct {
	in   io.Reader
	out  io.Writer
	stop <-chan struct{} // closed when the person has had enough: in a session, a question does not end with its call

	mu    sync.Mutex  // one question at a time
	typed chan string // what the person types, line by line; nil until something is asked
}

// errEnough says that the person has had enough.
var errEnough = errors.New("the person has left")

// answer implements the client's elicitation handler.
func (a *asker) answer(ctx context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	message := oneLine(req.Params.Message)
	if f, ok := a.in.(*os.File); ok && !isTerminal(f) {
		fmt.Fprintf(a.out, "the server asks: %s\nThis is declined: standard input is not a terminal, so nobody can answer.\n", message)
		return &mcp.ElicitResult{Action: "decline"}, nil
	}
	fmt.Fprintf(a.out, "the server asks: %s\n", message)
	ask := a.form
	if req.Params.Mode == "url" {
		ask = a.visit
	}
	result, err := ask(ctx, req.Params)
	switch {
	case errors.Is(err, errEnough):
		return &mcp.ElicitResult{Action: "cancel"}, nil
	case ctx.Err() != nil: // the question is answered elsewhere, or nobody waits for the answer
		fmt.Fprintln(a.out, "\n  this is no longer asked")
	}
	return result, err
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// visit asks whether the person has done what there is to do at a URL. The URL is the server's: it is shown, never opened.
func (a *asker) visit(ctx context.Context, p *mcp.ElicitParams) (*mcp.ElicitResult, error) {
	fmt.Fprintf(a.out, "  It wants you to visit %s\n", oneLine(p.URL))
	return a.confirm(ctx, "Go there and then say yes, or no to decline", nil)
}

// confirm asks for a yes, which accepts with this content. Anything else, the end of the input too, declines.
func (a *asker) confirm(ctx context.Context, prompt string, content map[string]any) (*mcp.ElicitResult, error) {
	line, err := a.ask(ctx, prompt)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case err == nil && isYes(line):
		return &mcp.ElicitResult{Action: "accept", Content: content}, nil
	}
	return &mcp.ElicitResult{Action: "decline"}, nil
}

// A field is one value that a form asks for. Forms are flat: the specification allows no more than these.
type field struct {
	Type        string   `json:"type"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Default     any      `json:"default"`
	Enum        []string `json:"enum"`
	OneOf       []struct{ Const, Title string }
	Items       struct {
		Enum  []string `json:"enum"`
		AnyOf []struct{ Const, Title string }
	} `json:"items"`
}

// form asks for one value after the other. The end of the input dismisses the whole form.
func (a *asker) form(ctx context.Context, p *mcp.ElicitParams) (*mcp.ElicitResult, error) {
	var schema struct {
		Properties map[string]field `json:"properties"`
		Required   []string         `json:"required"`
	}
	text, err := json.Marshal(p.RequestedSchema)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, fmt.Errorf("a form that cannot be read: %w", err)
	}
	if len(schema.Properties) == 0 {
		return a.confirm(ctx, "yes or no", map[string]any{})
	}
	var names []string
	for name := range schema.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	content := map[string]any{}
	fmt.Fprintln(a.out, "  (an empty line takes the default, ! declines)")
	for _, name := range names {
		f := schema.Properties[name]
		for {
			line, err := a.ask(ctx, f.prompt(name, slices.Contains(schema.Required, name)))
			if errors.Is(err, io.EOF) {
				return &mcp.ElicitResult{Action: "cancel"}, nil
			} else if err != nil {
				return nil, err
			}
			if line == "!" {
				return &mcp.ElicitResult{Action: "decline"}, nil
			}
			if line == "" {
				if f.Default == nil && slices.Contains(schema.Required, name) {
					continue
				}
				if f.Default != nil {
					content[name] = f.Default
				}
				break
			}
			value, err := f.parse(line)
			if err == nil {
				content[name] = value
				break
			}
			fmt.Fprintf(a.out, "  %v\n", err)
		}
	}
	return &mcp.ElicitResult{Action: "accept", Content: content}, nil
}

// ask returns what the person types in a line, and [io.EOF] at the input's end.
func (a *asker) ask(ctx context.Context, prompt string) (string, error) {
	fmt.Fprintf(a.out, "  %s: ", prompt)
	if a.typed == nil {
		a.typed = make(chan string)
		go func() { // a read from a terminal cannot be called off, and must not be made twice
			defer close(a.typed)
			for r := bufio.NewReader(a.in); ; {
				line, err := r.ReadString('\n')
				if err == nil || line != "" {
					a.typed <- line
				}
				if err != nil {
					return
				}
			}
		}()
	}
	select {
	case line, ok := <-a.typed:
		if !ok {
			fmt.Fprintln(a.out, "\n  standard input has ended: nobody answers")
			return "", io.EOF
		}
		return strings.TrimSpace(line), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-a.stop:
		return "", errEnough
	}
}

func (f field) choices() []string {
	choices := append(slices.Clone(f.Enum), f.Items.Enum...)
	for _, c := range f.OneOf {
		choices = append(choices, c.Const)
	}
	for _, c := range f.Items.AnyOf {
		choices = append(choices, c.Const)
	}
	return choices
}

func (f field) prompt(name string, required bool) string {
	label := name
	if f.Title != "" {
		label = f.Title
	}
	if f.Description != "" {
		label += ", " + f.Description
	}
	switch {
	case len(f.choices()) > 0:
		label += " [" + strings.Join(f.choices(), "/") + "]"
	case f.Type == "boolean":
		label += " [yes/no]"
	}
	if f.Default != nil {
		label += fmt.Sprintf(" (default %v)", f.Default)
	} else if !required {
		label += " (may be empty)"
	}
	return oneLine(label)
}

// parse reads what was typed as a value of the field's type. What else the schema demands, the SDK and the server check.
func (f field) parse(line string) (any, error) {
	choices := f.choices()
	known := func(s string) error {
		if len(choices) > 0 && !slices.Contains(choices, s) {
			return fmt.Errorf("%q is none of %s", s, strings.Join(choices, ", "))
		}
		return nil
	}
	switch f.Type {
	case "boolean":
		switch {
		case isYes(line):
			return true, nil
		case slices.Contains([]string{"n", "no", "false"}, strings.ToLower(line)):
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither yes nor no", line)
	case "integer":
		n, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", line)
		}
		return n, nil
	case "number":
		n, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", line)
		}
		return n, nil
	case "array":
		values := []string{}
		for value := range strings.SplitSeq(line, ",") {
			value = strings.TrimSpace(value)
			if err := known(value); err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		return values, nil
	}
	return line, known(line)
}

func isYes(s string) bool {
	return slices.Contains([]string{"y", "yes", "true"}, strings.ToLower(s))
}
