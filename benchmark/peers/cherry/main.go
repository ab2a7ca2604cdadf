// The servers of the benchmark on cherry: the services that its comparison asks for, on NATS.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cherry-game/cherry"
	"github.com/cherry-game/cherry/facade"
	"github.com/cherry-game/cherry/net/connector"
	"github.com/cherry-game/cherry/net/parser/pomelo"
	"github.com/cherry-game/cherry/net/parser/pomelo/message"
	"github.com/cherry-game/cherry/net/proto"
	"github.com/cherry-game/cherry/net/serializer"
)

// The two types of nodes; a node's type is the first part of its routes.
const (
	gate    = "gate"
	backend = "game"
)

// agents is the actor of a gate that has the clients.
const agents = "user"

func main() {
	role := flag.String("role", "standalone", "standalone, gate or backend")
	listen := flag.String("listen", "127.0.0.1:0", "where clients connect")
	ws := flag.Bool("ws", false, "clients speak WebSocket")
	nats := flag.String("nats", "", "where NATS is, of a cluster")
	number := flag.Int("number", 0, "which of the gates this is")
	gates := flag.Int("gates", 1, "how many gates there are")
	flag.Parse()

	mode, id := cherry.Cluster, gateID(*number)
	switch *role {
	case "standalone":
		mode = cherry.Standalone
	case "gate":
	case "backend":
		id = backend
	default:
		log.Fatalf("no such role: %s", *role)
	}
	profile, err := writeProfile(*nats, *gates)
	if err != nil {
		log.Fatal(err)
	}
	app := cherry.Configure(profile, id, id != backend, mode)
	if err := os.RemoveAll(filepath.Dir(profile)); err != nil {
		log.Fatal(err)
	}
	app.SetSerializer(serializer{cherrySerializer.NewProtobuf()})
	address := ""
	if id != backend {
		address = freeAddress(*listen)
		app.SetNetParser(clients(address, *ws))
	}
	if *role != "gate" {
		app.AddActors(&Echo{}, &Grp{})
	}
	go announce(app, address)
	app.Startup()
}

func gateID(number int) string {
	return fmt.Sprintf("%s-%d", gate, number)
}

// writeProfile writes the configuration of all nodes: cherry has it in a file.
func writeProfile(nats string, gates int) (string, error) {
	node := func(id string) map[string]any {
		settings := map[string]any{"ref_logger": "errors"}
		return map[string]any{"node_id": id, "enabled": true, "__settings__": settings}
	}
	var all []any
	for number := range gates {
		all = append(all, node(gateID(number)))
	}
	text, err := json.Marshal(map[string]any{
		"env":         "benchmark",
		"debug":       false,
		"print_level": "error",
		"logger":      map[string]any{"errors": map[string]any{"level": "error"}},
		"cluster": map[string]any{
			"discovery": map[string]any{"mode": "default"},
			"nats":      map[string]any{"address": "nats://" + nats, "prefix": "benchmark"},
		},
		"node": map[string]any{gate: all, backend: []any{node(backend)}},
	})
	if err != nil {
		return "", err
	}
	folder, err := os.MkdirTemp("", "cherry")
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, "profile.json")
	return file, os.WriteFile(file, text, 0o600)
}

// freeAddress chooses the port if it is 0: a connector does not report which it was given.
func freeAddress(listen string) string {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// clients is what a gate speaks with its clients.
func clients(listen string, ws bool) *pomelo.Actor {
	parser := pomelo.NewActor(agents)
	if ws {
		parser.AddConnector(cherryConnector.NewWS(listen))
	} else {
		parser.AddConnector(cherryConnector.NewTCP(listen))
	}
	// Messages are forwarded, and broadcasts sent, only for users.
	var users atomic.Int64
	parser.SetOnDataRoute(func(agent *pomelo.Agent, route *pomeloMessage.Route, msg *pomeloMessage.Message) {
		if !agent.IsBind() {
			if _, err := pomelo.Bind(agent.SID(), users.Add(1)); err != nil {
				log.Print(err)
			}
		}
		pomelo.DefaultDataRoute(agent, route, msg)
	})
	return parser
}

// announce prints the address of the clients once they can be served, of a backend that it is ready.
func announce(app *cherry.AppBuilder, address string) {
	pause := func() { time.Sleep(20 * time.Millisecond) }
	for !app.Running() {
		pause()
	}
	if address == "" {
		fmt.Println("ready")
		return
	}
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			break
		}
		pause()
	}
	fmt.Println("listening on", address)
}

// serializer leaves bodies as they are.
type serializer struct{ *cherrySerializer.Protobuf }

func (s serializer) Unmarshal(data []byte, value any) error {
	if body, ok := value.(*[]byte); ok {
		*body = data
		return nil
	}
	return s.Protobuf.Unmarshal(data, value)
}

// service is an actor for all clients.
type service struct{ pomelo.ActorBase }

// OnLocalReceived handles what a gate addresses to an actor of each session.
func (*service) OnLocalReceived(*cherryFacade.Message) (next, invoke bool) {
	return false, true
}

// Echo answers with what it was sent.
type Echo struct{ service }

func (*Echo) AliasID() string { return "Echo" }

func (e *Echo) OnInit() { e.Local().Register("Echo", e.echo) }

func (e *Echo) echo(session *cherryProto.Session, body *[]byte) {
	e.Response(session, *body)
}

// Grp sends to all clients of all gates: cherry has no groups.
type Grp struct{ service }

func (*Grp) AliasID() string { return "Grp" }

func (g *Grp) OnInit() {
	g.Local().Register("Join", g.join)
	g.Local().Register("Send", g.send)
}

func (g *Grp) join(session *cherryProto.Session, body *[]byte) {
	g.Response(session, *body)
}

func (g *Grp) send(session *cherryProto.Session, body *[]byte) {
	if g.App().Discovery() == nil {
		g.PushWithUIDS(session.AgentPath, nil, true, "onBroadcast", *body)
		return
	}
	for _, node := range g.App().Discovery().ListByType(gate) {
		path := cherryFacade.NewPath(node.GetNodeID(), agents)
		g.PushWithUIDS(path, nil, true, "onBroadcast", *body)
	}
}
