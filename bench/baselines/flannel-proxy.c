/*
 * A peer of flannel's `udp` backend, with the semantics of its C proxy and its way of working: one packet a system call, both
 * directions in one loop that polls only when both are empty. Not part of vtepd: tests talk to it, the benchmark compares with it.
 *
 *     flannel-proxy TUN LOCAL PORT TUNNEL-ADDRESS MTU ROUTES
 *
 * Makes the TUN (address, routes and MTU are the caller's business) and binds LOCAL:PORT. ROUTES is a file with a line for each
 * peer's subnet, `10.246.13.0/24 10.245.1.4`, read again after SIGHUP. Prints `ready` when it forwards.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUTES_MAX 65536
/* The quoted header with options, and eight bytes of what follows it (RFC 792). */
#define QUOTE_MAX (60 + 8)

struct route {
  uint32_t network, mask;
  struct sockaddr_in hop;
};

static struct route routes[ROUTES_MAX];
static size_t route_count;
static uint32_t tunnel_address;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint16_t checksum(const void *data, size_t length) {
  const uint8_t *bytes = data;
  uint32_t sum = 0;
  for (size_t at = 0; at + 1 < length; at += 2) sum += (uint32_t)bytes[at] << 8 | bytes[at + 1];
  if (length % 2 == 1) sum += (uint32_t)bytes[length - 1] << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

/* The first match counts, and moves to the front. */
static const struct sockaddr_in *find(uint32_t address) {
  for (size_t at = 0; at < route_count; at++) {
    if ((address & routes[at].mask) != routes[at].network) continue;
    struct route found = routes[at];
    routes[at] = routes[0];
    routes[0] = found;
    return &routes[0].hop;
  }
  return NULL;
}

/* Never about ICMP, never about a later fragment. */
static void net_unreachable(int tun, const uint8_t *packet, size_t length) {
  const struct iphdr *about = (const struct iphdr *)packet;
  size_t quoted = about->ihl * 4u + 8;
  if (about->protocol == IPPROTO_ICMP || (ntohs(about->frag_off) & 0x1fff) != 0 || quoted > QUOTE_MAX) return;
  if (quoted > length) quoted = length;
  struct {
    struct iphdr ip;
    struct icmphdr icmp;
    uint8_t quote[QUOTE_MAX];
  } answer = {0};
  size_t total = sizeof answer.ip + sizeof answer.icmp + quoted;
  answer.ip.version = 4;
  answer.ip.ihl = 5;
  answer.ip.tot_len = htons((uint16_t)total);
  answer.ip.ttl = 8;
  answer.ip.protocol = IPPROTO_ICMP;
  answer.ip.saddr = tunnel_address;
  answer.ip.daddr = about->saddr;
  answer.ip.check = checksum(&answer.ip, sizeof answer.ip);
  answer.icmp.type = ICMP_DEST_UNREACH;
  answer.icmp.code = ICMP_NET_UNREACH;
  memcpy(answer.quote, packet, quoted);
  answer.icmp.checksum = checksum(&answer.icmp, sizeof answer.icmp + quoted);
  if (write(tun, &answer, total) < 0) perror("write to the TUN");
}

/* Takes one, and patches the header's checksum (RFC 1624). False when none is left: such a packet is dropped in silence. */
static int live(struct iphdr *ip) {
  if (--ip->ttl == 0) return 0;
  uint32_t check = ntohs(ip->check) + 0x100u;
  ip->check = htons((uint16_t)(check + (check >= 0xffff)));
  return 1;
}

static int outwards(int tun, int sock, uint8_t *packet, size_t room) {
  ssize_t length = read(tun, packet, room);
  if (length < (ssize_t)sizeof(struct iphdr)) return 0;
  struct iphdr *ip = (struct iphdr *)packet;
  const struct sockaddr_in *hop = find(ip->daddr);
  if (hop == NULL) {
    net_unreachable(tun, packet, (size_t)length);
  } else if (live(ip)) {
    if (sendto(sock, packet, (size_t)length, 0, (const struct sockaddr *)hop, sizeof *hop) < 0) perror("sendto");
  }
  return 1;
}

static int inwards(int tun, int sock, uint8_t *packet, size_t room) {
  ssize_t length = recv(sock, packet, room, MSG_DONTWAIT);
  if (length < (ssize_t)sizeof(struct iphdr)) return 0;
  if (!live((struct iphdr *)packet)) return 1;
  while (write(tun, packet, (size_t)length) < 0) {
    if (errno == EAGAIN) continue;
    perror("write to the TUN");
    break;
  }
  return 1;
}

/* All routes anew, from lines such as "10.246.13.0/24 10.245.1.4". */
static void load(const char *file, uint16_t port) {
  FILE *lines = fopen(file, "r");
  if (lines == NULL) fail(file);
  char network[16], hop[16];
  unsigned length;
  route_count = 0;
  while (route_count < ROUTES_MAX && fscanf(lines, " %15[0-9.]/%u %15s", network, &length, hop) == 3 && length <= 32) {
    struct route *route = &routes[route_count++];
    *route = (struct route){.hop = {.sin_family = AF_INET, .sin_port = htons(port)}};
    route->mask = length == 0 ? 0 : htonl(~0u << (32 - length));
    route->network = inet_addr(network) & route->mask;
    route->hop.sin_addr.s_addr = inet_addr(hop);
  }
  fclose(lines);
}

static volatile sig_atomic_t stale;

static void on_hangup(int number) {
  stale = number;
}

static int open_tun(const char *name) {
  int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (tun < 0) fail("open /dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(tun, TUNSETIFF, &request) < 0) fail("TUNSETIFF");
  return tun;
}

int main(int count, char **words) {
  if (count != 7) {
    fprintf(stderr, "usage: %s TUN LOCAL PORT TUNNEL-ADDRESS MTU ROUTES\n", words[0]);
    return 2;
  }
  uint16_t port = (uint16_t)atoi(words[3]);
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(port)};
  local.sin_addr.s_addr = inet_addr(words[2]);
  tunnel_address = inet_addr(words[4]);
  size_t room = (size_t)atoi(words[5]);
  uint8_t *packet = malloc(room);
  int tun = open_tun(words[1]);
  int sock = socket(AF_INET, SOCK_DGRAM, 0);
  if (packet == NULL || sock < 0 || bind(sock, (struct sockaddr *)&local, sizeof local) < 0) fail("bind");
  load(words[6], port);
  signal(SIGHUP, on_hangup);
  puts("ready");
  fflush(stdout);
  struct pollfd fds[] = {{.fd = tun, .events = POLLIN}, {.fd = sock, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, 100) < 0 && errno != EINTR) fail("poll");
    if (stale) {
      stale = 0;
      load(words[6], port);
    }
    int active;
    do {
      active = outwards(tun, sock, packet, room) + inwards(tun, sock, packet, room);
    } while (active > 0 && !stale);
  }
}
