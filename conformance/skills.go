package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// skillsExtension names the extension of SEP-2640. The SDK does not know it, so
// its methods are custom ones, and the capability is declared by hand.
const skillsExtension = "io.modelcontextprotocol/skills"

const (
	skillDir           = "skill://lock-keeping"
	skillReferencesDir = skillDir + "/references"
)

// skillAbout stands in the listing and, as YAML, at the top of SKILL.md; the
// two must say the same.
var skillAbout = skillFrontmatter{
	Name:        "lock-keeping",
	Description: "How to bring a boat through a lock.",
}

type skillFrontmatter struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// skillEntry is a skill as skills/list and skills/get show it.
type skillEntry struct {
	URI         string           `json:"uri"`
	Frontmatter skillFrontmatter `json:"frontmatter"`
	Resources   []skillFile      `json:"resources"`
}

// skillFile lets a client verify a file of a skill that it has read.
type skillFile struct {
	URI    string `json:"uri"`
	Digest string `json:"digest"`
	Size   int    `json:"size"`
}

// skillResult is what the results of both methods share. The SDK completes only
// its own types, so the members that 2026-07-28 requires are set here.
type skillResult struct {
	mcp.ResultBase
	mcp.Cacheable
	ResultType string `json:"resultType"`
}

var completeSkill = skillResult{Cacheable: mcp.Cacheable{CacheScope: "public"}, ResultType: "complete"}

type listSkillsResult struct {
	skillResult
	Skills []skillEntry `json:"skills"`
}

type getSkillResult struct {
	skillResult
	Skill skillEntry `json:"skill"`
}

type uriParams struct {
	mcp.ParamsBase
	URI string `json:"uri"`
}

// addSkills adds a skill of two files, one of them in a subdirectory.
func addSkills(s *mcp.Server) error {
	skill := skillEntry{URI: skillDir + "/SKILL.md", Frontmatter: skillAbout}
	add := func(uri, name, description, text string) *mcp.Resource {
		r := &mcp.Resource{URI: uri, Name: name, Description: description, MIMEType: "text/markdown", Size: int64(len(text))}
		s.AddResource(r, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: r.MIMEType, Text: text}}}, nil
		})
		skill.Resources = append(skill.Resources, skillFile{
			URI: uri, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))), Size: len(text),
		})
		return r
	}
	manifest := add(skill.URI, skillAbout.Name, skillAbout.Description, fmt.Sprintf(
		"---\nname: %s\ndescription: %s\n---\n\nLevel the water, then open the gate. See references/gates.md.\n",
		skillAbout.Name, skillAbout.Description))
	gates := add(skillReferencesDir+"/gates.md", "gates", "Which gate to open.", "Never open both gates at once.\n")
	children := map[string][]*mcp.Resource{
		skillDir:           {manifest, {URI: skillReferencesDir, Name: "references", MIMEType: "inode/directory"}},
		skillReferencesDir: {gates},
	}

	type session = mcp.ServerSession
	return errors.Join(
		mcp.AddReceivingCustomMethod(s, "skills/list", func(context.Context, *session, *mcp.ParamsBase) (*listSkillsResult, error) {
			return &listSkillsResult{completeSkill, []skillEntry{skill}}, nil
		}),
		mcp.AddReceivingCustomMethod(s, "skills/get", func(_ context.Context, _ *session, p *uriParams) (*getSkillResult, error) {
			if p.URI != skill.URI {
				return nil, invalidURI("skill", p.URI)
			}
			return &getSkillResult{completeSkill, skill}, nil
		}),
		mcp.AddReceivingCustomMethod(s, "resources/directory/read", func(_ context.Context, _ *session, p *uriParams) (*mcp.ListResourcesResult, error) {
			resources, ok := children[p.URI]
			if !ok {
				return nil, invalidURI("directory", p.URI)
			}
			return &mcp.ListResourcesResult{Cacheable: completeSkill.Cacheable, Resources: resources}, nil
		}),
	)
}

func invalidURI(kind, uri string) error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("no such %s: %q", kind, uri)}
}
