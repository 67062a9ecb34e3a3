package lint

import (
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the text of every Markdown file that is ours, by its path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".cache" || d.Name() == "testdata" || d.Name() == "data"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		below, _ := filepath.Rel(root, path)
		all[filepath.ToSlash(below)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// eachLine calls visit for every line outside code blocks.
func eachLine(path, text string, visit func(at finding, line string)) {
	code := false
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "```") {
			code = !code
			continue
		}
		if !code {
			visit(finding{file: path, line: i + 1}, line)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)

// checkLinks reports links to files that are not there.
func checkLinks(documents map[string]string, exists func(path string) bool) []finding {
	var found []finding
	for path, text := range documents {
		eachLine(path, text, func(at finding, line string) {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if strings.Contains(m[1], "://") || exists(filepath.Join(filepath.Dir(path), m[1])) {
					continue
				}
				at.text = "the link to " + m[1] + " leads nowhere: correct it, or write that file"
				found = append(found, at)
			}
		})
	}
	return found
}

var testName = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz|Benchmark|Example)\\w*)`")

// checkTestNames reports tests that a document names and nobody has written.
func checkTestNames(path, text string, exists func(pack, test string) bool) (found []finding, names int) {
	eachLine(path, text, func(at finding, line string) {
		for _, m := range testName.FindAllStringSubmatch(line, -1) {
			names++
			if !exists(m[1], m[2]) {
				at.text = "there is no test " + m[2] + " in " + m[1] + ": name the one that holds this now, or say that none does"
				found = append(found, at)
			}
		}
	})
	return found, names
}

var setting = regexp.MustCompile(`^(?:# )?(\w+) = (\[?"[^"]*"\]?|-?\d+)\s*#`)

// checkKeys reports keys of the sample file that the page has not, or with another default.
func checkKeys(sample, path, page string) (found []finding, keys int) {
	for line := range strings.Lines(sample) {
		m := setting.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		keys++
		value := strings.Trim(m[2], `"[]`)
		row := func(l string) bool {
			hasDefault := value == "" || strings.Contains(l, "| `"+value+"` |") || strings.HasPrefix(line, "#")
			return strings.HasPrefix(l, "|") && strings.Contains(l, "| `"+m[1]+"` |") && hasDefault
		}
		if !slices.ContainsFunc(strings.Split(page, "\n"), row) {
			found = append(found, finding{path, 1, "no row has the key `" + m[1] + "` with its default `" + value + "`: add it as conf/kiteq.toml has it"})
		}
	}
	return found, keys
}

func TestLinks(t *testing.T) {
	t.Parallel()
	report(t, checkLinks(documents(t), func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}))
}

func TestPromisesNameTests(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	for _, p := range load(t, list(t)) {
		for _, f := range p.files {
			for _, decl := range f.ast.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
					tests[p.path+"."+fn.Name.Name] = true
				}
			}
		}
	}
	for page, least := range map[string]int{"doc/promises.md": 12, "doc/security.md": 25} {
		found, names := checkTestNames(page, documents(t)[page], func(pack, test string) bool { return tests[pack+"."+test] })
		report(t, found)
		if names < least {
			t.Errorf("%s names %d tests: fewer than promises or threats", page, names)
		}
	}
}

func TestConfigPage(t *testing.T) {
	t.Parallel()
	sample, err := os.ReadFile(filepath.Join(root, "conf", "kiteq.toml"))
	if err != nil {
		t.Fatal(err)
	}
	const page = "doc/config.md"
	found, keys := checkKeys(string(sample), page, documents(t)[page])
	report(t, found)
	if keys < 20 {
		t.Errorf("only %d keys were understood in conf/kiteq.toml", keys)
	}
}

// TestDocumentSamples shows each of these checks failing.
func TestDocumentSamples(t *testing.T) {
	t.Parallel()
	there := func(path string) bool { return path == "doc/a.md" }
	expect(t, checkLinks(map[string]string{
		"doc/x.md": "[a](a.md) [part](a.md#part) [web](https://example.com) [self](#x)\n```\n[code](gone.md)\n```\n[b](../b.md)\n",
		"y.md":     "[a](doc/a.md)\n[a](a.md)\n",
	}, there), "doc/x.md:5: the link to ../b.md leads nowhere", "y.md:2: the link to a.md leads nowhere")

	found, names := checkTestNames("p.md", "`a/b.TestX` and `a.FuzzY`\n`a/b.TestZ`\n", func(pack, test string) bool { return pack == "a/b" && test == "TestX" })
	expect(t, found, "p.md:1: there is no test FuzzY in a", "p.md:2: there is no test TestZ in a/b")
	if names != 3 {
		t.Errorf("%d names, want 3", names)
	}

	sample := "# a comment\nbind = \":1\" # x\ntopics = [\"m\"]  # y\nmany = 3 # z\n# shards = 2 # by the machine\nempty = \"\" # nothing\n"
	page := "| `-bind` | `bind` | `:1` | x |\n| `topics` | `m` |\n| `many` | `4` | z |\n| `shards` | processors |\n| `empty` | | |\n"
	found, keys := checkKeys(sample, "c.md", page)
	expect(t, found, "c.md:1: no row has the key `many` with its default `3`")
	if keys != 5 {
		t.Errorf("%d keys, want 5", keys)
	}
	found, _ = checkKeys("gone = 1 # x\n", "c.md", page)
	expect(t, found, "c.md:1: no row has the key `gone`")
}
