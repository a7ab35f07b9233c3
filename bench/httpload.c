// A load client for HTTP that costs little itself: N keep-alive connections, each asking again as soon as it is
// answered, for some seconds; one thread, one epoll. Answers must carry a Content-Length. Prints one line of JSON.
//
//   cc -O2 -o httpload httpload.c
//   httpload -p PORT [-n CONNECTIONS] [-u PATH] [-s SECONDS] [-w WARM-UP]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (64 * 1024)

typedef struct {
  int fd;
  char *in;
  size_t len, want;  // `want`: length of the whole answer, once its head is complete
  int64_t asked;
} Conn;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void give_up(const char *why, const char *detail) {
  fprintf(stderr, "httpload: %s: %.300s\n", why, detail);
  exit(1);
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

static char request[2048];
static size_t request_len;

static void ask(Conn *c) {
  c->len = c->want = 0;
  c->asked = now_ns();
  if (write(c->fd, request, request_len) != (ssize_t)request_len) give_up("write", strerror(errno));
}

// True once the answer is complete. Its status must be 200: refusals are cheap and would flatter.
static int answered(Conn *c) {
  ssize_t k = read(c->fd, c->in + c->len, BUFFER - 1 - c->len);
  if (k < 0 && errno == EAGAIN) return 0;
  if (k <= 0) give_up("the server closed a connection", k ? strerror(errno) : "end");
  c->len += k;
  c->in[c->len] = 0;
  if (!c->want) {
    char *end = strstr(c->in, "\r\n\r\n"), *length = strcasestr(c->in, "\r\ncontent-length:");
    if (!end) return 0;
    if (strncmp(c->in, "HTTP/1.1 200", 12)) give_up("not answered with 200", c->in);
    if (!length || length > end) give_up("an answer without Content-Length", c->in);
    c->want = end + 4 - c->in + atol(length + 17);
    if (c->want >= BUFFER) give_up("the answer is too large", "");
  }
  return c->len >= c->want;
}

int main(int argc, char **argv) {
  const char *path = "/health";
  int port = 8080, conns = 32, option;
  double seconds = 5, warm_up = 1;
  while ((option = getopt(argc, argv, "p:n:u:s:w:")) != -1) switch (option) {
    case 'p': port = atoi(optarg); break;
    case 'n': conns = atoi(optarg); break;
    case 'u': path = optarg; break;
    case 's': seconds = atof(optarg); break;
    case 'w': warm_up = atof(optarg); break;
    default: return 2;
  }
  request_len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n\r\n", path, port);
  Conn *all = calloc(conns, sizeof(Conn));
  int poller = epoll_create1(0), one = 1;
  for (int i = 0; i < conns; i++) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    all[i].in = malloc(BUFFER);
    if (connect(all[i].fd, (void *)&to, sizeof to)) give_up("connect", strerror(errno));
    setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &ev);
    ask(&all[i]);
  }
  size_t most = 20000000, count = 0;
  int64_t *latency = malloc(most * sizeof *latency);
  int64_t from = now_ns() + warm_up * 1e9, until = from + seconds * 1e9, now;
  while ((now = now_ns()) < until) {
    struct epoll_event evs[256];
    int n = epoll_wait(poller, evs, 256, 100);
    if (n == 0 && now > from) give_up("no answer", path);
    for (int k = 0; k < n; k++) {
      Conn *c = &all[evs[k].data.u32];
      if (!answered(c)) continue;
      int64_t at = now_ns();
      if (at >= from && count < most) latency[count++] = at - c->asked;
      ask(c);
    }
  }
  qsort(latency, count, sizeof *latency, by_value);
#define MS(share) (count ? latency[(size_t)((share) * (count - 1))] / 1e6 : 0.0)
  printf("{\"connections\":%d,\"requests\":%zu,\"requests_per_s\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
         conns, count, count / seconds, MS(.5), MS(.99), MS(1));
  return 0;
}
