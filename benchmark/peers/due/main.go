// The servers of the benchmark on due: the service that its comparison asks for, with etcd.
package main

import (
	"context"
	"flag"
	"fmt"
	stdlog "log"
	"net"
	"time"

	"github.com/dobyte/due/network/tcp/v2"
	"github.com/dobyte/due/registry/etcd/v2"
	"github.com/dobyte/due/v2"
	"github.com/dobyte/due/v2/cluster/gate"
	"github.com/dobyte/due/v2/cluster/node"
	"github.com/dobyte/due/v2/component"
	"github.com/dobyte/due/v2/locate"
	"github.com/dobyte/due/v2/log"
	"github.com/dobyte/due/v2/packet"
)

// echo is the route of the one handler.
const echo = 1

func main() {
	role := flag.String("role", "gate", "gate or backend")
	listen := flag.String("listen", "127.0.0.1:0", "where clients connect")
	endpoint := flag.String("etcd", "", "where etcd is")
	flag.Parse()

	log.SetLogger(log.NewLogger(log.WithLevel(log.LevelError)))
	// Numbers of requests need more than the two bytes of the default.
	packet.SetPacker(packet.NewPacker(packet.WithSeqBytes(4)))
	registry := etcd.NewRegistry(etcd.WithAddrs(*endpoint))
	container := due.NewContainer()
	switch *role {
	case "gate":
		address := freeAddress(*listen)
		container.Add(
			gate.NewGate(
				gate.WithServer(tcp.NewServer(tcp.WithServerAddr(address), tcp.WithServerHeartbeatInterval(30*time.Second))),
				gate.WithLocator(locator{}),
				gate.WithRegistry(registry),
				gate.WithAddr("127.0.0.1:0"),
			),
			&started{run: func() { go announce(address) }},
		)
	case "backend":
		backend := node.NewNode(
			node.WithLocator(locator{}),
			node.WithRegistry(registry),
			node.WithAddr("127.0.0.1:0"),
			node.WithCodec(raw{}),
		)
		backend.Proxy().Router().AddRouteHandler(echo, answer)
		container.Add(backend, &started{run: func() { fmt.Println("ready") }})
	default:
		stdlog.Fatalf("no such role: %s", *role)
	}
	container.Serve()
}

// answer responds with what it was sent.
func answer(ctx node.Context) {
	var body []byte
	if err := ctx.Parse(&body); err != nil {
		log.Error(err)
		return
	}
	if err := ctx.Response(body); err != nil {
		log.Error(err)
	}
}

// freeAddress chooses the port if it is 0: a gate does not report which it was given.
func freeAddress(listen string) string {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		stdlog.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// announce prints the address of the clients once a request is answered.
func announce(address string) {
	for !answers(address) {
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Println("listening on", address)
}

func answers(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	request, err := packet.PackMessage(&packet.Message{Seq: 1, Route: echo, Buffer: []byte("ready")})
	if err != nil {
		stdlog.Fatal(err)
	}
	if _, err := conn.Write(request); err != nil {
		return false
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return false
	}
	_, err = packet.ReadMessage(conn)
	return err == nil
}

// started is the last component to start.
type started struct {
	component.Base
	run func()
}

func (*started) Name() string { return "started" }

func (s *started) Start() { s.run() }

// raw leaves bodies as they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(value any) ([]byte, error) {
	body, ok := value.([]byte)
	if !ok {
		return nil, fmt.Errorf("not bytes: %T", value)
	}
	return body, nil
}

func (raw) Unmarshal(data []byte, value any) error {
	body, ok := value.(*[]byte)
	if !ok {
		return fmt.Errorf("not bytes: %T", value)
	}
	*body = data
	return nil
}

// locator knows no user: due wants one, and there are no users here.
type locator struct{}

func (locator) Name() string { return "none" }

func (locator) Watch(ctx context.Context, _ ...string) (locate.Watcher, error) {
	return watcher{ctx}, nil
}

func (locator) BindGate(context.Context, int64, string) error           { return nil }
func (locator) BindNode(context.Context, int64, string, string) error   { return nil }
func (locator) UnbindGate(context.Context, int64, string) error         { return nil }
func (locator) UnbindNode(context.Context, int64, string, string) error { return nil }

func (locator) LocateGate(context.Context, int64) (string, error)         { return "", nil }
func (locator) LocateNode(context.Context, int64, string) (string, error) { return "", nil }

func (locator) LocateNodes(context.Context, int64) (map[string]string, error) { return nil, nil }

// watcher sees nothing until it ends.
type watcher struct{ ctx context.Context }

func (w watcher) Next() ([]*locate.Event, error) {
	<-w.ctx.Done()
	return nil, w.ctx.Err()
}

func (watcher) Stop() error { return nil }
