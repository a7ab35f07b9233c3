// A load client for files that costs little itself: N keep-alive connections, each asking for a whole file or for a
// random range of it again as soon as it is answered; bodies are counted and thrown away in the kernel (MSG_TRUNC).
// One thread, one epoll. Answers must carry a Content-Length. Prints one line of JSON.
//
//   cc -O2 -o mediaload mediaload.c
//   mediaload -p PORT -u PATH [-u PATH …] [-n CONNECTIONS] [-r BYTES -l LENGTH] [-s SECONDS] [-w WARM-UP]
//
//   -r BYTES -l LENGTH   ranges of so many bytes at random places of files that are LENGTH long; else whole files
//   -h                   hold: connect, ask for whole files, read the heads and then nothing, until stdin ends
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
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define HEAD (16 * 1024)
#define PATHS 64

typedef struct {
  int fd;
  char in[HEAD];
  size_t len;      // bytes of the head so far
  int64_t left;    // of the body; −1 while the head is not complete
  int64_t asked;
} Conn;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu_s(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void give_up(const char *why, const char *detail) {
  fprintf(stderr, "mediaload: %s: %.600s\n", why, detail);
  exit(1);
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

static const char *paths[PATHS];
static int path_count, port = 8080;
static int64_t range, length;
static uint64_t seed = 88172645463325252ULL;

static uint64_t next_random(void) {  // xorshift64
  seed ^= seed << 13;
  seed ^= seed >> 7;
  return seed ^= seed << 17;
}

static void ask(Conn *c) {
  char request[4096], wanted[96] = "";
  if (range) {
    int64_t first = next_random() % (uint64_t)(length - range + 1);
    snprintf(wanted, sizeof wanted, "Range: bytes=%lld-%lld\r\n", (long long)first, (long long)(first + range - 1));
  }
  int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n%s\r\n",
                      paths[next_random() % path_count], port, wanted);
  c->len = 0;
  c->left = -1;
  c->asked = now_ns();
  if (write(c->fd, request, size) != size) give_up("write", strerror(errno));
}

// Bytes of the body that came with it; −1 if the head is not complete yet.
static int64_t read_head(Conn *c) {
  ssize_t k = read(c->fd, c->in + c->len, HEAD - 1 - c->len);
  if (k < 0 && errno == EAGAIN) return -1;
  if (k <= 0) give_up("the server closed a connection", k ? strerror(errno) : "end");
  c->len += k;
  c->in[c->len] = 0;
  char *end = strstr(c->in, "\r\n\r\n"), *found = strcasestr(c->in, "\r\ncontent-length:");
  if (!end) {
    if (c->len >= HEAD - 1) give_up("no head", c->in);
    return -1;
  }
  *end = 0;
  if (strncmp(c->in, range ? "HTTP/1.1 206" : "HTTP/1.1 200", 12)) give_up("not answered with what was asked", c->in);
  if (!found || found > end) give_up("an answer without Content-Length", c->in);
  int64_t whole = atoll(found + 17), here = c->in + c->len - (end + 4);
  if (range && whole != range) give_up("not the range that was asked", c->in);
  c->left = whole - here;
  return here;
}

// Bytes of bodies that arrived; `*done` once the answer is complete.
static int64_t take(Conn *c, int *done) {
  int64_t got = 0;
  if (c->left < 0) {
    got = read_head(c);
    if (got < 0) return 0;
  }
  while (c->left > 0) {
    ssize_t k = recv(c->fd, NULL, c->left < 1 << 24 ? c->left : 1 << 24, MSG_TRUNC | MSG_DONTWAIT);
    if (k < 0 && errno == EAGAIN) return got;
    if (k <= 0) give_up("the server cut an answer", k ? strerror(errno) : "end");
    c->left -= k;
    got += k;
  }
  *done = 1;
  return got;
}

static void hold(Conn *all, int conns) {
  for (int i = 0; i < conns; i++) {
    struct timeval patience = {.tv_sec = 30};
    setsockopt(all[i].fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (all[i].left < 0) read_head(&all[i]);
  }
  printf("{\"held\":%d}\n", conns);
  fflush(stdout);
  while (getchar() != EOF) {}
}

int main(int argc, char **argv) {
  int conns = 8, option, holding = 0;
  double seconds = 5, warm_up = 1;
  while ((option = getopt(argc, argv, "p:u:n:r:l:s:w:h")) != -1) switch (option) {
    case 'p': port = atoi(optarg); break;
    case 'u': if (path_count < PATHS) paths[path_count++] = optarg; break;
    case 'n': conns = atoi(optarg); break;
    case 'r': range = atoll(optarg); break;
    case 'l': length = atoll(optarg); break;
    case 's': seconds = atof(optarg); break;
    case 'w': warm_up = atof(optarg); break;
    case 'h': holding = 1; break;
    default: return 2;
  }
  if (!path_count || (range && range > length)) return 2;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  Conn *all = calloc(conns, sizeof(Conn));
  int poller = epoll_create1(0), one = 1, small = 4096;
  for (int i = 0; i < conns; i++) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    if (holding) setsockopt(all[i].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (all[i].fd < 0 || connect(all[i].fd, (void *)&to, sizeof to)) give_up("connect", strerror(errno));
    setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &ev);
    ask(&all[i]);
  }
  if (holding) {
    hold(all, conns);
    return 0;
  }
  size_t most = 20000000, count = 0;
  int64_t *latency = malloc(most * sizeof *latency), bytes = 0;
  int64_t from = now_ns() + warm_up * 1e9, until = from + seconds * 1e9, now;
  double used = -1;
  while ((now = now_ns()) < until) {
    struct epoll_event evs[256];
    int n = epoll_wait(poller, evs, 256, 2000);
    if (n == 0) give_up("no answer", paths[0]);
    if (used < 0 && now >= from) used = cpu_s();
    for (int k = 0; k < n; k++) {
      Conn *c = &all[evs[k].data.u32];
      int done = 0;
      int64_t got = take(c, &done), at = now_ns();
      if (at >= from) bytes += got;
      if (!done) continue;
      if (at >= from && count < most) latency[count++] = at - c->asked;
      ask(c);
    }
  }
  used = cpu_s() - used;
  qsort(latency, count, sizeof *latency, by_value);
#define MS(share) (count ? latency[(size_t)((share) * (count - 1))] / 1e6 : 0.0)
  printf("{\"connections\":%d,\"requests\":%zu,\"requests_per_s\":%.1f,\"bytes_per_s\":%.0f,\"load_cpu\":%.3f,"
         "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
         conns, count, count / seconds, bytes / seconds, used / seconds, MS(.5), MS(.99), MS(1));
  return 0;
}
