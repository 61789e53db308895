/** The workspace's packages and sources on disk. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface WorkspacePackage {
  /** Relative to the root, such as `packages/celery`. */
  readonly folder: string;
  readonly name: string;
  readonly dependencies: readonly string[];
  readonly devDependencies: readonly string[];
}

interface Manifest {
  readonly name: string;
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
}

/** Every package in `apps` and `packages`. */
export function workspacePackages(): WorkspacePackage[] {
  return ["apps", "packages"].flatMap((parent) =>
    readdirSync(join(ROOT, parent))
      .map((name) => `${parent}/${name}`)
      .filter((folder) => existsSync(join(ROOT, folder, "package.json")))
      .map((folder) => {
        const manifest = JSON.parse(readText(`${folder}/package.json`)) as Manifest;
        return {
          folder,
          name: manifest.name,
          dependencies: Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }),
          devDependencies: Object.keys(manifest.devDependencies ?? {}),
        };
      }),
  );
}

/** The source files of a package, relative to the root. */
export function sourcesOf(folder: string): string[] {
  return readdirSync(join(ROOT, folder, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => `${folder}/src/${file}`);
}

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** The anchors that GitHub gives the headings of a page; for equal headings, only the first one. */
export function headingsOf(page: string): string[] {
  return [...proseOf(page).matchAll(/^#{1,6} (.+)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** A page without its code blocks, in which `#` and brackets mean something else. */
export function proseOf(page: string): string {
  return readText(page).replace(/^ *```.*?^ *```/gms, "");
}
