// An OpenID Connect provider that we did not write, as a test wants it: node provider.mjs PORT REDIRECT_URI.
// Accounts are made up: a person who signs in as NAME is NAME, in the groups that stand after a colon ("anna:ops,staff").
import { Provider } from "oidc-provider";
import { generateKeyPairSync } from "node:crypto";

const [port, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid: `key-${Date.now()}`, use: "sig", alg: "RS256" };

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "infoscreen",
      client_secret: "secret of the client",
      redirect_uris: [redirect],
      response_types: ["code"],
      grant_types: ["authorization_code"],
    },
  ],
  jwks: { keys: [key] },
  cookies: { keys: ["of a test"] },
  pkce: { required: () => true },
  claims: { openid: ["sub"], profile: ["preferred_username"], groups: ["groups"] },
  scopes: ["openid", "profile", "groups"],
  features: { devInteractions: { enabled: true } },
  findAccount: (_, id) => {
    const [name, groups] = id.split(":");
    return {
      accountId: id,
      claims: () => ({ sub: `sub-of-${name}`, preferred_username: name, groups: groups ? groups.split(",") : [] }),
    };
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
