package interop

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// requirement is one line of the interop contract that says REQ, or that states what every client counts on.
type requirement struct {
	section string
	quote   string // the line's start
	check   func(t *testing.T, f framing)
	// once is set where the framing makes no difference.
	once bool
}

// requirements are in the order of the contract.
//
//nolint:gochecknoglobals // a table
var requirements = []requirement{
	{section: "0.1", quote: "A new broker must detect the framing per connection", check: reqDetection},
	{section: "0.2", quote: "REQ: broker never uses opaque 0 for deliveries/checks, and echoes opaque 0 as 0 in replies", check: reqOpaqueZero},
	{section: "0.2", quote: "REQ: new client never uses opaque 0 for requests", check: heldBy("client", "TestOpaquesWrapAndSkipOpenCalls"), once: true},
	{section: "0.3", quote: "REQ: broker draws its own opaques from 0x80000000..0xFFFFFFFF", check: reqOwnOpaques},
	{section: "0.4", quote: "REQ: never close a Go client's connection unnecessarily; on restart leave the znode absent long enough", check: reqKeepOpen},
	{section: "0.6", quote: "REQ: cap in-flight deliveries per client process below ~90; default 32–48 per connection", check: reqInFlightCap},
	{section: "0.7", quote: "DeliverAck.groupId is the publisher's group, not the consumer's. Match acks by connection + opaque only", check: reqAckByOpaque},
	{section: "0.8", quote: "All `required` proto2 fields must be present, `feedback` included", check: reqRequiredFields},
	{section: "0.10", quote: "REQ: a new broker should delay the first check", check: reqFirstCheck},
	{section: "1.1", quote: "REQ broker: treat bodyLen <0 or >2 MiB as fatal and close", check: reqBadLength},
	{section: "1.1", quote: "REQ broker: never send a payload over 2 MiB to G, or a frame over 32 768 bytes (prefix included) to L", check: reqLargest},
	{section: "1.2", quote: "matches reply by opaque: PHP no (takes the next frame whatever it is)", check: reqRepliesInOrder},
	{section: "1.5", quote: "REQ broker: a framing error must close that connection only", check: reqFramingError},
	{section: "1.6", quote: "Framing detection (REQ for a new broker)", check: reqDetection},
	{section: "3", quote: "REQ broker: keep unknown header fields when storing and delivering", check: reqUnknownFields},
	{section: "4.1", quote: "REQ broker: answer ConnMeta well inside 3 s", check: reqConnMetaSoon},
	{section: "4.1", quote: "REQ broker: tolerate several ConnMeta on one connection", check: reqConnMetaAgain},
	{section: "4.2", quote: "REQ broker (suggested): pre-auth HeartBeat → ignore or answer, keep open", check: reqBeforeConnMeta},
	{section: "4.3", quote: "REQ broker: if an idle timeout is wanted at all use ≥ 120 s", check: reqIdle},
	{section: "4.6", quote: "Graceful stop (original): delete own znodes, keep running 10 s, then stop … REQ: keep this order", check: reqStopOrder},
	{section: "4.6", quote: "REQ restart: start listening first; delete a leftover znode; **wait at least 1–2 s**; create the znode", check: reqRestartGap},
	{section: "4.6", quote: "REQ: publish the znode only when handshakes already work", check: reqHandshakeFirst},
	{section: "4.7", quote: "REQ broker (suggested): after N consecutive ack timeouts … lower its share", check: reqUnresponsive},
	{section: "5.2", quote: "REQ: exact membership test, same feedback text", check: reqTopics},
	{section: "5.3", quote: "REQ broker: nothing; REQ new client: nack with feedback instead", check: reqBadSnappy},
	{section: "5.3", quote: "REQ new client: nack with feedback instead", check: heldBy("client", "TestDamagedSnappyIsRefused"), once: true},
	{section: "5.3", quote: "REQ broker (optional, recommended): when delivering to an L/C connection, decompress and drop the flag", check: reqSnappy},
	{section: "5.3", quote: "REQ new client: never mutate the caller's message", check: heldBy("client", "TestPublishAgainSendsEqualBytes"), once: true},
	{section: "5.4", quote: "REQ: status=true when delivered or stored; always answer", check: reqDeliveryFirst},
	{section: "6.3", quote: "REQ broker: a verdict for an unknown id is normal; ignore it", check: reqUnknownVerdict},
	{section: "6.3", quote: "REQ cluster of brokers without shared storage: rely on the check", check: reqVerdictElsewhere},
	{section: "6.4", quote: "REQ: deliver with commit=true", check: reqCommitTrue},
	{section: "6.6", quote: "REQ: first check after a configurable delay …, then back off; stop at expiry; never deliver on \"unknown\"", check: reqChecks},
	{section: "7.6", quote: "REQ broker: limit outstanding deliveries per connection", check: reqOutstanding},
	{section: "8.5 1", quote: "Create `/kiteq`, `/kiteq/server/{topic}`, `/kiteq/sub/{topic}`, `/kiteq/pub/{topic}` for all topics early", check: reqTopicNodes, once: true},
	{section: "8.5 2", quote: "Listen and accept handshakes, then read bindings and set watches, **then** create the ephemeral nodes", check: reqBindingsFirst},
	{section: "8.5 3", quote: "Publish a **numeric IPv4 `ip:port`**", check: reqNumeric, once: true},
	{section: "8.5 4", quote: "If a node of the same name exists from an old session: delete, pause 1–2 s, create (4.6)", check: reqRestartGap, once: true},
	{section: "8.5 5", quote: "Space out the creation of many topic nodes (tens of ms)", check: reqSpacing, once: true},
	{section: "8.5 6", quote: "On ZooKeeper disconnect do nothing; on expiry re-create all nodes and re-arm and re-read everything", check: reqDisconnect},
	{section: "8.5 7", quote: "Treat \"node exists\" on persistent creation as success", check: reqNodeExists, once: true},
	{section: "8.5 8", quote: "Deleting one `{groupId}-bind` must drop that group only", check: reqDropOneGroup},
	{section: "12", quote: "StoreAck always, < 1 s if C++/PHP matter, else < 3 s", check: reqStoreAckSoon},
	{section: "12", quote: "accept TxACK with any opaque", check: reqTxAckAnyOpaque},
	{section: "12", quote: "HTTP on port+1 with the shapes of 9.3", check: reqHTTP, once: true},
}

// TestRequirements runs every line over real sockets, with a client of each framing.
func TestRequirements(t *testing.T) {
	t.Parallel()
	for _, r := range requirements {
		t.Run(r.section+" "+r.quote, func(t *testing.T) {
			t.Parallel()
			if r.once {
				r.check(t, framingG)
				return
			}
			both(t, r.check)
		})
	}
}

// heldBy is for what the contract asks of a client: the client library is not imported here, and its own
// tests hold it. They must be there.
func heldBy(pack, test string) func(t *testing.T, f framing) {
	return func(t *testing.T, _ framing) {
		files, err := filepath.Glob(filepath.Join("..", "..", pack, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range f.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == test {
					return
				}
			}
		}
		t.Errorf("package %s has no test %s any more", pack, test)
	}
}
