package lint

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// row says which packages of the module one may import. "x/..." means x and everything below.
type row struct {
	pack string
	may  []string
}

// table is the import table of doc/architecture.md: downwards only, from the top. A package that
// only tests import (…test) may know what it helps to test.
var table = []row{
	// L5: programs
	{".", []string{"server", "conf"}},
	{"cmd/kiteqctl", []string{"client", "conf", "handler/access", "registry/...", "store/...", "internal/kite", "internal/operate", "internal/protocol"}},
	{"cmd/kiteq-bench", []string{"client", "internal/kite", "internal/protocol"}},
	{"internal/demo", []string{"client", "client/barrier", "internal/operate"}},
	// L4: the assembly and the configuration
	{"server", []string{
		"conf", "handler/...", "server/transport", "server/admin", "server/metrics", "server/guard", "server/page", "registry/...", "store/...",
		"internal/kite", "internal/operate", "internal/protocol",
	}},
	{"conf", []string{
		"handler/access", "handler/deliver", "handler/exchange", "handler/sequence", "handler/session", "handler/txn", "handler/webhook", "server/guard", "server/transport",
		"registry/...", "store/...", "internal/kite",
	}},
	// L3: the edges
	{"handler", []string{"handler/session", "internal/protocol", "internal/kite"}},
	{"handler/webhook", []string{"internal/protocol", "internal/kite"}},
	{"server/transport", []string{"handler/session", "internal/protocol", "internal/kite"}},
	{"server/admin", []string{"handler/session", "internal/operate", "internal/protocol", "internal/kite"}},
	{"server/metrics", []string{"internal/kite"}},
	{"server/guard", []string{"internal/kite"}},
	{"server/page", []string{"server/admin", "internal/operate", "internal/kite"}},
	// L2: the parts, which do not know each other
	{"handler/access", []string{"internal/kite"}},
	{"handler/session", []string{"internal/kite"}},
	{"handler/exchange", []string{"internal/kite"}},
	{"handler/sequence", []string{"store", "internal/kite"}},
	{"handler/deliver", []string{"internal/kite"}},
	{"handler/txn", []string{"internal/kite"}},
	{"handler/delay", []string{"internal/kite"}},
	// L1: the leaves and their contracts
	{"store", []string{"internal/kite"}},
	{"store/memory", []string{"store", "internal/kite"}},
	{"store/mmap", []string{"store", "internal/kite"}},
	{"store/mock", []string{"store", "internal/kite"}},
	{"store/mysql", []string{"store", "internal/kite"}},
	{"store/mysql/mysqltest", []string{"store", "store/mysql", "internal/mysqltest"}},
	{"store/mysql/original", []string{"internal/kite"}},
	{"store/mysql/original/originaltest", []string{"store/mysql/original", "internal/mysqltest"}},
	{"store/storetest", []string{"store", "internal/kite"}},
	{"registry", []string{"internal/kite"}},
	{"registry/zk", []string{"registry", "internal/kite"}},
	{"registry/embedded", []string{"registry", "internal/kite"}},
	{"registry/file", []string{"registry", "internal/kite"}},
	{"registry/remember", []string{"registry", "internal/kite"}},
	{"registry/registrytest", []string{"registry", "internal/kite"}},
	{"internal/protocol", []string{"internal/kite", "internal/protocol/wire"}},
	{"internal/protocol/wire", nil},
	{"internal/operate", nil},
	// L0: the domain
	{"internal/kite", nil},
	// the client library, and what helps to test
	{"client", []string{"registry", "registry/zk", "registry/file", "internal/protocol", "internal/kite"}},
	{"client/clienttest", []string{"client", "registry", "internal/protocol", "internal/kite"}},
	{"client/clienttest/original", []string{"client/clienttest", "internal/protocol/wire", "internal/kite"}},
	{"client/barrier", []string{"client", "client/internal/sqltable", "internal/kite"}},
	{"client/inbox", []string{"client", "client/internal/sqltable", "internal/kite"}},
	{"client/internal/sqltable", []string{"internal/kite"}},
	{"client/internal/dbtest", []string{"client/internal/sqltable"}},
	{"client/compat", []string{"client", "client/compat/protocol", "client/compat/registry", "internal/protocol"}},
	{"client/compat/protocol", []string{"internal/protocol/wire"}},
	{"client/compat/registry", nil},
	{"internal/tlstest", nil},
	{"internal/zktest", []string{"registry", "registry/zk", "registry/registrytest", "internal/kite"}},
	{"internal/e2e", []string{"client", "conf", "server", "registry/...", "store/...", "internal/operate", "internal/protocol", "internal/kite"}},
	{"internal/interop", nil}, // what its tests know is in its TestIndependence
	{"internal/sim", []string{"handler/...", "store/...", "internal/protocol", "internal/kite"}},
	{"internal/mysqltest", nil},
	{"internal/lint", nil},
	{"internal/configdoc", []string{"conf"}},
}

// homes says which packages may import a module of others: where it is used is where it is known.
// What is not named here is not a dependency yet.
var homes = map[string][]string{
	"github.com/BurntSushi/toml":          {"conf"},
	"github.com/go-zookeeper/zk":          {"registry/zk", "registry/registrytest", "internal/zktest", "cmd/kiteqctl"},
	"github.com/panjf2000/gnet/v2":        {"server/transport"},
	"github.com/prometheus/client_golang": {"server/metrics"},
	"github.com/spf13/cobra":              {"cmd/..."},
	"github.com/schollz/progressbar":      {"cmd/..."},
	"golang.org/x/term":                   {"cmd/..."},
	"github.com/spf13/pflag":              {"cmd/..."},
	"google.golang.org/protobuf":          {"internal/protocol/...", "client/compat/protocol", "client/clienttest/original"},
	"github.com/klauspost/compress":       {"internal/protocol"},
	"github.com/DeRuina/timberjack":       {"conf"},
	"go.yaml.in/yaml/v3":                  {"registry/file"},
	"go.uber.org/goleak":                  {"registry/registrytest", "store/storetest", "internal/zktest"},
	"github.com/google/go-cmp":            {"registry/registrytest", "store/storetest", "client/clienttest"},
	"pgregory.net/rapid":                  {"registry/registrytest", "store/storetest"},
	"golang.org/x/crypto":                 {"handler/access"},
	"golang.org/x/sync":                   {"..."},
	"golang.org/x/sys":                    {"..."},
	"github.com/go-sql-driver/mysql":      {"store/mysql/...", "internal/mysqltest", "client/internal/dbtest"},
	"github.com/lib/pq":                   {"client/internal/dbtest"},
	"github.com/mattn/go-sqlite3":         {"client/internal/dbtest", "internal/demo"},

	"github.com/HdrHistogram/hdrhistogram-go": {"cmd/kiteq-bench"},
}

// heavy is what the client library must not pull into its users' programs, however far down.
var heavy = []string{
	module + "/conf", module + "/handler", module + "/server", module + "/store",
	"github.com/panjf2000/gnet", "github.com/go-sql-driver/mysql", "github.com/prometheus", "go.opentelemetry.io",
}

// client is the package that heavy is about.
const client = "client"

// checkImports compares what the packages' non-test files import with the table. Tests may import more.
func checkImports(packs []pack, table []row) []finding {
	var found []finding
	for _, p := range packs {
		i := slices.IndexFunc(table, func(r row) bool { return r.pack == p.path })
		if i < 0 {
			found = append(found, finding{p.files[0].path, 1, fmt.Sprintf("package %s has no row in the import table: add one to table in internal/lint/imports_test.go and to doc/architecture.md", p.path)})
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for path, pos := range f.imports() {
				if ours(path) && !matches(table[i].may, below(path)) {
					found = append(found, f.find(pos, "%s imports %s: its row in the import table allows only %s: turn the dependency round with an interface, or change the table and doc/architecture.md",
						p.path, below(path), orNothing(table[i].may)))
				}
			}
		}
	}
	return found
}

// checkHomes reports modules of others outside the packages that may know them.
func checkHomes(packs []pack, homes map[string][]string) []finding {
	var found []finding
	for _, p := range packs {
		for _, f := range p.files {
			if f.test {
				continue
			}
			for path, pos := range f.imports() {
				if ours(path) || standard(path) {
					continue
				}
				home := ""
				for m := range maps.Keys(homes) {
					if within(path, m) {
						home = m
					}
				}
				switch {
				case p.path == "internal/kite":
					found = append(found, f.find(pos, "internal/kite imports %s: the domain uses the standard library only", path))
				case home == "":
					found = append(found, f.find(pos, "%s is a new dependency: do without, or add it to homes in internal/lint/imports_test.go with the packages that may know it", path))
				case !matches(homes[home], p.path):
					found = append(found, f.find(pos, "%s may be imported only by %s: put what needs it there", home, strings.Join(homes[home], ", ")))
				}
			}
		}
	}
	return found
}

// checkHeavy reports what the package pulls in, by its files or by its tests, that it must not.
func checkHeavy(all []listed, path string, heavy []string) []finding {
	deps := map[string][]string{}
	for _, l := range all {
		deps[l.ImportPath] = l.Deps
	}
	var found []finding
	complain := func(dep, how string) {
		for _, h := range heavy {
			if within(dep, h) {
				found = append(found, finding{path, 1, fmt.Sprintf("%s depends on %s%s: everybody who imports it would get that, too: cut the path (go mod why)", path, below(dep), how)})
			}
		}
	}
	for _, l := range all {
		if below(l.ImportPath) != path {
			continue
		}
		for _, dep := range l.Deps {
			complain(dep, "")
		}
		for _, test := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(l.TestImports, l.XTestImports)))) {
			complain(test, " by its tests")
			for _, dep := range deps[test] {
				complain(dep, " by its tests, through "+below(test))
			}
		}
	}
	return found
}

// within tells whether path is prefix or lies below it.
func within(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// matches tells whether one of the patterns names the package.
func matches(patterns []string, path string) bool {
	for _, pattern := range patterns {
		if above, ok := strings.CutSuffix(pattern, "..."); pattern == path || ok && within(path, strings.TrimSuffix(above, "/")) || pattern == "..." {
			return true
		}
	}
	return false
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing of this module"
	}
	return strings.Join(list, ", ")
}

// checkTable reports rows that say less than they seem to.
func checkTable(table []row) []finding {
	var found []finding
	seen := map[string]bool{}
	for _, r := range table {
		if seen[r.pack] {
			found = append(found, finding{"internal/lint/imports_test.go", 1, fmt.Sprintf("package %s has two rows: the second is never looked at", r.pack)})
		}
		seen[r.pack] = true
	}
	return found
}

func TestImports(t *testing.T) {
	t.Parallel()
	all := list(t)
	packs := load(t, all)
	report(t, checkTable(table))
	report(t, checkImports(packs, table))
	report(t, checkHomes(packs, homes))
	report(t, checkHeavy(all, client, heavy))
}
